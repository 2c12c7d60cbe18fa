/** What an entry becomes in Loki, and the LogQL that is written for filters. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AuditEntry, type AuditFilter, auditActions, auditEntry } from "../../shared/audit.ts";
import {
  entryFromLine,
  labelsOf,
  logQuery,
  nsOf,
  pushBody,
  queryWindow,
  streamKey,
  toLokiEntry,
} from "../../shared/loki.ts";
import { DAY, entriesOf, entryOf, HOUR } from "../support/loki-tools.ts";

/** Any text, lone surrogates and control characters included. */
const text = fc.string({
  unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
});

const anyEntry: fc.Arbitrary<AuditEntry> = fc
  .record({
    id: fc.stringMatching(/^[0-9A-Za-z]{16}$/).map((random) => `evt_${random}`),
    seq: fc.integer({ min: 1, max: 1e12 }),
    at: fc.integer({ min: 0, max: 4e12 }),
    action: fc.constantFrom(...auditActions),
    username: text,
    actor: fc.record({ type: fc.constantFrom("user", "api_key", "system"), id: text }),
    outcome: fc.constantFrom("success", "denied", "failure"),
    request_id: text,
    target: fc.record({ type: text, id: fc.option(text) }),
    details: fc.record(
      { reason: text, name: text, scopes: fc.array(text), ttl: fc.integer() },
      { requiredKeys: [] },
    ),
  })
  .map((given) => entryOf(given));

/** The same with the members of every object in another order. */
const shuffled = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(shuffled);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, member]) => [name, shuffled(member)] as const)
      .reverse(),
  );
};

describe("an entry in Loki", () => {
  test("is a function of the entry: members in another order give the same bytes", () => {
    fc.assert(
      fc.property(anyEntry, (entry) => {
        const reordered = shuffled(entry) as AuditEntry;
        expect(pushBody([reordered])).toBe(pushBody([entry]));
        expect(streamKey(reordered)).toBe(streamKey(entry));
      }),
    );
  });

  test("has the entry as canonical JSON for its line, members in the order of the schema", () => {
    const [, line] = toLokiEntry(entryOf({ source_ip: "127.0.0.1", traceparent: "00-0-0-00" }));
    expect(Object.keys(JSON.parse(line))).toEqual(Object.keys(auditEntry.shape));
    fc.assert(
      fc.property(anyEntry, (entry) => {
        const [, line] = toLokiEntry(entry);
        expect(JSON.stringify(entryFromLine(line))).toBe(line);
        expect(toLokiEntry(entryFromLine(line) as AuditEntry)).toEqual(toLokiEntry(entry));
      }),
    );
  });

  test("has no lone surrogate anywhere, and is unchanged where there was none", () => {
    fc.assert(
      fc.property(anyEntry, (entry) => {
        const body = JSON.parse(pushBody([entry]), (_, value: unknown) => {
          if (typeof value === "string") expect(value.isWellFormed()).toBe(true);
          return value;
        });
        const [, line] = body.streams[0].values[0];
        expect(JSON.stringify(JSON.parse(line)).isWellFormed()).toBe(true);
        if (JSON.stringify(entry).includes("\\ud")) return;
        expect(entryFromLine(line)).toEqual(entry);
      }),
    );
  });

  test("has the labels job, tenant_id and action, and no others", () => {
    expect(labelsOf(entryOf())).toEqual({ job: "audit_logs", tenant_id: "tenant1", action: "get_key" });
  });

  test("stands at its millisecond, apart from the others of it and in the order of seq", () => {
    const at = Date.parse("2026-01-31T12:00:00.123Z");
    expect(nsOf(entryOf({ at, seq: 42 }))).toBe("1769860800123000042");
    expect(nsOf(entryOf({ at, seq: 7_000_001 }))).toBe("1769860800123000001");
    const all = entriesOf("tenant1", 5_000, { at }).map((entry) => BigInt(nsOf(entry)));
    expect(new Set(all).size).toBe(5_000);
    expect(all.toSorted((a, b) => Number(a - b))).toEqual(all);
    expect(all.every((ns) => ns / 1_000_000n === BigInt(at))).toBe(true);
  });

  test("carries metadata to filter by, the empty ones left out", () => {
    const metadata = (given: Partial<AuditEntry>) => toLokiEntry(entryOf(given))[2];
    const usual = {
      event_id: entryOf().id,
      username: "ada",
      request_id: "req-1",
      outcome: "success",
      seq: "1",
    };
    expect(metadata({})).toEqual(usual);
    const { username: _, ...nameless } = usual;
    expect(metadata({ username: "" })).toEqual(nameless);
    const key = { type: "api_key", id: "key_1" } as const;
    const other = { type: "api_key", id: "key_2" } as const;
    expect(metadata({ actor: key })).toEqual({ ...usual, key_id: "key_1" });
    expect(metadata({ target: key })).toEqual({ ...usual, key_id: "key_1" });
    expect(metadata({ actor: key, target: other })).toEqual({ ...usual, key_id: "key_1" });
    expect(metadata({ target: { type: "api_key", id: null } })).toEqual(usual);
  });

  test("is pushed with entries of its own stream only", () => {
    expect(() => pushBody([])).toThrow(RangeError);
    expect(() => pushBody([entryOf(), entryOf({ action: "create_key" })])).toThrow(RangeError);
    expect(() => pushBody([entryOf(), entryOf({ tenant_id: "tenant2" })])).toThrow(RangeError);
  });

  test("is not read from a line that is none", () => {
    const [, line] = toLokiEntry(entryOf());
    for (const other of [
      "",
      "{",
      "null",
      "[]",
      "{}",
      line.replace("get_key", "fly"),
      line.replace("{", '{"x":1,'),
    ]) {
      expect(entryFromLine(other)).toBeUndefined();
    }
  });
});

describe("LogQL", () => {
  test("is written from the filter's fields, the time range left out", () => {
    expect(logQuery("tenant1", {})).toBe('{job="audit_logs", tenant_id="tenant1"}');
    const filter = {
      action: "get_key",
      outcome: "denied",
      actor: "usr_1",
      key: "a",
      from: "2026-01-01T00:00:00Z",
    };
    expect(logQuery("tenant1", filter as AuditFilter)).toBe(
      '{job="audit_logs", tenant_id="tenant1", action="get_key"} | outcome="denied"' +
        ' | json actor_id="actor.id" | actor_id="usr_1" | json target_id="target.id" | target_id="a"',
    );
  });

  test("no text of a filter escapes its literal, and each is read as what it was, U+FFFD as a space", () => {
    const literals = /"(?:[^"\\\n\r]|\\(?:["\\/bfnrt]|u[0-9a-f]{4}))*"/g;
    const skeleton = logQuery("t", { actor: "x", key: "x" }).replace(literals, "?");
    fc.assert(
      fc.property(text, text, (actor, key) => {
        const query = logQuery("t", { actor, key });
        expect(query.isWellFormed()).toBe(true);
        expect(query.replace(literals, "?")).toBe(skeleton);
        const read = [...query.matchAll(literals)].map(([literal]) => JSON.parse(literal) as string);
        const meant = [actor, key].map((one) => one.toWellFormed().replaceAll("\ufffd", " "));
        expect([read[3], read[5]]).toEqual(meant);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("the time range of a query", () => {
  const now = Date.parse("2026-06-15T00:00:00Z");
  const retention = 366 * DAY;
  const ns = (milliseconds: number) => `${milliseconds}000000`;

  test("is the newest 30 days, ahead of the clock by what Loki accepts", () => {
    const end = now + HOUR / 6;
    expect(queryWindow({}, { now, retention })).toEqual({ start: ns(end - 30 * DAY), end: ns(end) });
  });

  test("goes on before what was read, down to `from` or what Loki keeps, and ends there", () => {
    const before = `${now - 366 * DAY + 1}000042`;
    expect(queryWindow({}, { now, retention, before })).toEqual({ start: ns(now - 366 * DAY), end: before });
    expect(queryWindow({}, { now, retention, before: ns(now - 366 * DAY) })).toBeUndefined();
    const from = new Date(now - DAY).toISOString();
    const to = new Date(now - HOUR).toISOString();
    expect(queryWindow({ from, to }, { now, retention })).toEqual({
      start: ns(now - DAY),
      end: ns(now - HOUR),
    });
    expect(queryWindow({ from: to, to: from }, { now, retention })).toBeUndefined();
  });
});
