/** Permissions, the roles that carry them, and those that an API key can be given as scopes. */

const permissions = [
  "data:read",
  "data:write",
  "keys:read",
  "keys:write",
  "audit:read",
  "audit:relay",
] as const;
export type Permission = (typeof permissions)[number];

/** What each role may do inside its own tenant. No role reaches another tenant. */
const rolePermissions = {
  admin: permissions,
  user: ["data:read", "data:write", "keys:read", "keys:write"],
} as const satisfies Record<string, readonly Permission[]>;

export type Role = keyof typeof rolePermissions;
export const roles = Object.keys(rolePermissions) as [Role, ...Role[]];

/** Scopes of an API key. Managing keys needs a person, so `keys:*` are not among them. */
export const keyScopes = ["data:read", "data:write", "audit:read"] as const satisfies readonly Permission[];
export type KeyScope = (typeof keyScopes)[number];
export const defaultKeyScopes: readonly KeyScope[] = ["data:read", "data:write"];

/** Roles that hold all of `needed`. */
export const rolesHolding = (needed: readonly Permission[]): Role[] =>
  roles.filter((role) =>
    needed.every((one) => (rolePermissions[role] as readonly Permission[]).includes(one)),
  );
