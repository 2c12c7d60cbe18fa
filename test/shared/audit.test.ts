import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type AuditEntry,
  type AuditFilter,
  auditActions,
  auditEntry,
  auditFilter,
  matchesFilter,
} from "../../shared/audit.ts";
import { toTimestamp } from "../../shared/formats.ts";
import { type Route, routes } from "../../shared/routes.ts";
import { entryOf } from "../support/loki-tools.ts";

const NOON = Date.parse("2026-01-31T12:00:00.000Z");
const entry = entryOf({ at: NOON });
const accepts = (change: object): boolean => auditEntry.safeParse({ ...entry, ...change }).success;
const acceptsFilter = (filter: object): boolean => auditFilter.safeParse(filter).success;

/** Few of each, so that filters and entries meet. */
const action = fc.constantFrom(...auditActions);
const outcome = fc.constantFrom<AuditEntry["outcome"][]>("success", "denied", "failure");
const actorId = fc.constantFrom("usr_a", "usr_b", "key_a");
const key = fc.constantFrom("a", "b", "A", "a ");
const time = fc.integer({ min: NOON - 3, max: NOON + 3 });
const anEntry = fc
  .record({ action, outcome, actorId, target: fc.option(key), time })
  .map(({ action, outcome, actorId, target, time }) => ({
    ...entry,
    action,
    outcome,
    timestamp: toTimestamp(time),
    actor: { type: "user" as const, id: actorId },
    target: { type: "item", id: target },
  }));
const aFilter: fc.Arbitrary<AuditFilter> = fc.record(
  { action, actor: actorId, key, outcome, from: time.map(toTimestamp), to: time.map(toTimestamp) },
  { requiredKeys: [] },
);

test("an entry matches a filter exactly when it matches every part that is given", () => {
  fc.assert(
    fc.property(anEntry, aFilter, (entry, filter) => {
      const at = Date.parse(entry.timestamp);
      const misses = [
        "action" in filter && filter.action !== entry.action,
        "actor" in filter && filter.actor !== entry.actor.id,
        "key" in filter && filter.key !== entry.target.id,
        "outcome" in filter && filter.outcome !== entry.outcome,
        filter.from !== undefined && at < Date.parse(filter.from),
        filter.to !== undefined && at >= Date.parse(filter.to),
      ];
      expect(matchesFilter(entry, filter)).toBe(!misses.includes(true));
    }),
    { numRuns: 1000 },
  );
  expect(matchesFilter(entry, {})).toBe(true);
});

test("from is inclusive and to is exclusive, to the millisecond and in any offset", () => {
  expect(matchesFilter(entry, { from: "2026-01-31T12:00:00.000Z" })).toBe(true);
  expect(matchesFilter(entry, { from: "2026-01-31T12:00:00.001Z" })).toBe(false);
  expect(matchesFilter(entry, { to: "2026-01-31T12:00:00.000Z" })).toBe(false);
  expect(matchesFilter(entry, { to: "2026-01-31T12:00:00.001Z" })).toBe(true);
  expect(
    matchesFilter(entry, { from: "2026-01-31T14:00:00+02:00", to: "2026-01-31T14:00:00.001+02:00" }),
  ).toBe(true);
});

test("of adjoining spans of time each entry is in exactly one", () => {
  fc.assert(
    fc.property(anEntry, fc.uniqueArray(time, { minLength: 1 }), (entry, cuts) => {
      const bounds = cuts.sort((a, b) => a - b).map(toTimestamp);
      const spans = [undefined, ...bounds].map((from, i) => ({ from, to: bounds[i] }));
      expect(spans.filter((span) => matchesFilter(entry, span))).toHaveLength(1);
    }),
  );
});

test("every time that a filter accepts is one that entries can be compared with", () => {
  const digits = (length: number) => fc.stringMatching(new RegExp(`^[0-9]{${length}}$`));
  const text = fc
    .tuple(
      digits(4),
      digits(2),
      digits(2),
      digits(2),
      fc.constantFrom("Z", "+00:00", "-23:59", "+14:00", ".123456789Z"),
    )
    .map(([year, day, hour, minute, end]) => `${year}-01-${day}T${hour}:${minute}:00${end}`);
  fc.assert(
    fc.property(text, (from) => {
      if (acceptsFilter({ from })) expect(Date.parse(from)).not.toBeNaN();
    }),
    { numRuns: 2000, examples: [["0000-01-01T00:00:00Z"], ["9999-01-31T23:59:00-23:59"]] },
  );
  expect(
    ["", "now", "2026-01-31", "2026-01-31T12:00:00", "1769860800000"].filter((to) => acceptsFilter({ to })),
  ).toEqual([]);
});

test("a filter's actor has 1 to 128 characters, its key 1 to 512: every key of an item can be asked for", () => {
  expect([1, 128].filter((length) => !acceptsFilter({ actor: "a".repeat(length) }))).toEqual([]);
  expect([0, 129].filter((length) => acceptsFilter({ actor: "a".repeat(length) }))).toEqual([]);
  expect([1, 512].filter((length) => !acceptsFilter({ key: "a".repeat(length) }))).toEqual([]);
  expect([0, 513].filter((length) => acceptsFilter({ key: "a".repeat(length) }))).toEqual([]);
});

test("a filter for what there is not is refused instead of matching nothing, or everything", () => {
  const wrong = [
    { action: "get" },
    { action: "" },
    { action: "GET_KEY" },
    { outcome: "ok" },
    { outcome: "" },
  ];
  const unknown = [{ tenant_id: "tenant2" }, { username: "ada" }, { Action: "get_key" }, { request_id: "r" }];
  expect([...wrong, ...unknown].filter(acceptsFilter)).toEqual([]);
  expect([{}, { action: "get_key", outcome: "denied" }].filter((filter) => !acceptsFilter(filter))).toEqual(
    [],
  );
});

test("the actions are a closed list, which names items keys as dashboards know them", () => {
  expect(auditActions).toEqual([
    "login_success",
    "login_failed",
    "get_user",
    "create_key",
    "get_key",
    "update_key",
    "delete_key",
    "key_expiration",
    "create_api_key",
    "list_api_keys",
    "delete_api_key",
    "list_audit",
    "verify_audit",
    "relay_audit",
  ]);
  expect(auditActions.filter((action) => !accepts({ action }))).toEqual([]);
  expect(["", "get_item", "get_key "].filter((action) => accepts({ action }))).toEqual([]);
});

test("every action is the one of exactly one endpoint, but for a failed login and an expiry", () => {
  const ofRoutes = (routes as readonly Route[]).map((route) => route.audit);
  expect([...ofRoutes, "login_failed", "key_expiration"].sort()).toEqual([...auditActions].sort());
});

test("details hold nothing but a reason, a version, a ttl, and an API key's name, scopes and expiry", () => {
  const details = {
    reason: "x",
    version: 1,
    ttl: 60,
    name: "ci",
    scopes: ["data:read"],
    expires_at: toTimestamp(NOON),
  };
  expect(auditEntry.parse({ ...entry, details }).details).toEqual(details);
  const forbidden = [
    "value",
    "password",
    "token",
    "key_value",
    "hash",
    "metadata",
    "username",
    "query",
    "headers",
    "body",
  ];
  expect(forbidden.filter((field) => accepts({ details: { [field]: "x" } }))).toEqual([]);
  expect(
    [{ version: "1" }, { version: 1.5 }, { ttl: null }, { scopes: "data:read" }, null, []].filter((details) =>
      accepts({ details }),
    ),
  ).toEqual([]);
});

test("an entry holds nothing besides its named fields, also not inside its actor and target", () => {
  expect(auditEntry.parse(entry)).toEqual(entry);
  expect(
    ["value", "password", "token", "authorization", "ip"].filter((field) => accepts({ [field]: "x" })),
  ).toEqual([]);
  expect(accepts({ actor: { ...entry.actor, token: "x" } })).toBe(false);
  expect(accepts({ target: { ...entry.target, value: "x" } })).toBe(false);
  expect(accepts({ traceparent: "t", source_ip: "127.0.0.1" })).toBe(true);
});

test("an entry without one of its fields is no entry", () => {
  const incomplete = Object.keys(entry).map((field) => ({ [field]: undefined }));
  expect(incomplete.filter(accepts)).toEqual([]);
});

test("entries are numbered 1, 2, 3, and made by a user, an API key or the system", () => {
  expect([1, 2, Number.MAX_SAFE_INTEGER].filter((seq) => !accepts({ seq }))).toEqual([]);
  expect([0, -1, 1.5, "1", Number.NaN, 2 ** 53].filter((seq) => accepts({ seq }))).toEqual([]);
  expect(["user", "api_key", "system"].filter((type) => !accepts({ actor: { type, id: "x" } }))).toEqual([]);
  expect(["", "root", "USER"].filter((type) => accepts({ actor: { type, id: "x" } }))).toEqual([]);
});
