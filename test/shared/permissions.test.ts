import fc from "fast-check";
import { expect, test } from "vitest";
import {
  defaultKeyScopes,
  keyScopes,
  type Permission,
  roles,
  rolesHolding,
} from "../../shared/permissions.ts";
import { type Route, routes } from "../../shared/routes.ts";

/** Who may do what, written out once more so that a change of the table is noticed; the compiler keeps it complete. */
const HELD_BY = {
  "data:read": ["admin", "user"],
  "data:write": ["admin", "user"],
  "keys:read": ["admin", "user"],
  "keys:write": ["admin", "user"],
  "audit:read": ["admin"],
  "audit:relay": ["admin"],
} as const satisfies Record<Permission, readonly string[]>;
const permissions = Object.keys(HELD_BY) as Permission[];

test("there are two roles, and only the admin of them reads the audit trail", () => {
  expect([...roles].sort()).toEqual(["admin", "user"]);
  for (const permission of permissions)
    expect([...rolesHolding([permission])].sort()).toEqual([...HELD_BY[permission]]);
});

test("a role is named for a set of permissions exactly when it holds every one of them", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...permissions)), (needed) => {
      const holding = roles.filter((role) =>
        needed.every((one) => (HELD_BY[one] as readonly string[]).includes(role)),
      );
      expect(rolesHolding(needed)).toEqual(holding);
    }),
  );
});

test("whoever needs nothing may be anybody", () => {
  expect(rolesHolding([])).toEqual(roles);
});

test("an API key can read and write data and read the audit trail, and never manage keys", () => {
  expect([...keyScopes]).toEqual(["data:read", "data:write", "audit:read"]);
  expect(keyScopes.filter((scope) => scope.startsWith("keys:"))).toEqual([]);
});

test("an API key gets only access to data when its scopes are not named", () => {
  expect(defaultKeyScopes).toEqual(["data:read", "data:write"]);
});

test("whatever an API key may be given, some role may do", () => {
  expect(keyScopes.filter((scope) => rolesHolding([scope]).length === 0)).toEqual([]);
});

test("every endpoint that is open to API keys asks for a scope, and for one that a key can have", () => {
  const open = (routes as readonly Route[]).filter((route) => route.credential === "any");
  expect(open.length).toBeGreaterThan(0);
  const scopes: readonly (string | undefined)[] = keyScopes;
  expect(open.filter((route) => !scopes.includes(route.permission)).map(({ id }) => id)).toEqual([]);
});
