/** Audit entries as CloudEvents: what is written is what is read, and nothing else is read. */
import { CloudEvent, HTTP } from "cloudevents";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AuditEntry, auditActions } from "../shared/audit.ts";
import { eventOverrides, MAX_EVENT_BYTES, readEvent, toEvents } from "../shared/events.ts";
import { encodeEvent } from "../shared/node/cloud-events.ts";
import { entryOf } from "./support/loki-tools.ts";

const SOURCE = "/functions/data-get";
const entry = entryOf({ at: Date.UTC(2026, 0, 31, 12) });

const HEADERS = {
  "content-type": "application/json",
  "ce-specversion": "1.0",
  "ce-id": "1",
  "ce-source": SOURCE,
  "ce-type": "dev.latchkey.audit.get_key",
  "ce-subject": "tenant1",
  "ce-tenantid": "tenant1",
  "ce-count": "1",
};
/** Any UTF-16, lone surrogates and controls included, often enough with the characters that JSON escapes. */
const unit = fc.oneof(
  fc.nat(0xffff),
  fc.integer({ min: 0xd7ff, max: 0xe000 }),
  fc.constantFrom(92, 34, 117, 100, 0),
);
const hostile = fc.array(unit, { maxLength: 40 }).map((units) => String.fromCharCode(...units));
const years = { min: new Date("0000-01-01T00:00:00Z"), max: new Date("9999-12-31"), noInvalidDate: true };
const anId = fc.stringMatching(/^[0-9A-Za-z]{16}$/).map((text) => `evt_${text}`);
const fields = {
  id: anId,
  seq: fc.integer({ min: 1 }),
  timestamp: fc.date(years).map((date) => date.toISOString()),
  action: fc.constantFrom(...auditActions),
  tenant_id: fc.constantFrom("a", "tenant1", "0".repeat(63)),
  username: hostile,
  actor: fc.record({ type: fc.constantFrom("user", "api_key", "system"), id: hostile }),
  outcome: fc.constantFrom("success", "denied", "failure"),
  request_id: hostile,
  target: fc.record({ type: hostile, id: fc.option(hostile) }),
  details: fc.record({ reason: hostile, ttl: fc.nat(), scopes: fc.array(hostile) }, { requiredKeys: [] }),
};
const requiredKeys = Object.keys(fields) as (keyof typeof fields)[];
const anEntry: fc.Arbitrary<AuditEntry> = fc.record(
  { ...fields, traceparent: hostile, source_ip: hostile },
  { requiredKeys },
);

/** The entry as Redis has it: UTF-8 has no lone surrogates. */
const throughUtf8 = (entry: AuditEntry): AuditEntry =>
  JSON.parse(JSON.stringify(entry), (_, value) =>
    typeof value === "string" ? Buffer.from(value).toString() : value,
  );

const groupOf = (entry: AuditEntry): string => `${entry.tenant_id} ${entry.action}`;
function groupsOf(entries: readonly AuditEntry[]): Map<string, AuditEntry[]> {
  const groups = new Map<string, AuditEntry[]>();
  for (const one of entries) groups.set(groupOf(one), [...(groups.get(groupOf(one)) ?? []), one]);
  return groups;
}

/** As the other side gets it, in binary mode or, by the library of CloudEvents, in structured mode. */
async function read(entries: readonly AuditEntry[], mode: "binary" | "structured") {
  const events = await Promise.all(toEvents(SOURCE, entries).map(encodeEvent));
  return events.map(({ headers, body }) => {
    if (mode === "binary") return readEvent(new Headers(headers), body);
    const event = HTTP.toEvent({ headers, body }) as CloudEvent<unknown>;
    const message = HTTP.structured(new CloudEvent({ ...event, data: JSON.parse(body) }));
    return readEvent(new Headers(message.headers as Record<string, string>), message.body as string);
  });
}

const sizeOf = ({ headers, body }: { headers: Record<string, string>; body: string }): number =>
  Buffer.byteLength(body) +
  Object.entries(headers).reduce((sum, [name, value]) => sum + Buffer.byteLength(`${name}: ${value}\r\n`), 0);

test.each(["binary", "structured"] as const)(
  "%s mode: whatever entries are sent, the same are read, each once, in the order of their tenant and action",
  async (mode) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anEntry, { maxLength: 30 }), async (entries) => {
        const events = await read(entries, mode);
        const got = events.flatMap((event) => ("refused" in event ? [] : event.entries));
        expect(events.filter((event) => "refused" in event)).toEqual([]);
        expect(groupsOf(got)).toEqual(groupsOf(entries.map(throughUtf8)));
        expect(events).toHaveLength(groupsOf(entries).size);
      }),
      { numRuns: 150 },
    );
  },
);

test("a lone surrogate becomes U+FFFD as it does in Redis, so the relay publishes the same entry; pairs stay", async () => {
  const target = { type: "item", id: "\ud800 \\ud800 😀 \udc00" };
  const [event] = toEvents(SOURCE, [{ ...entry, target }]);
  expect(JSON.parse(event?.data ?? "")[0].target.id).toBe("\ufffd \\ud800 😀 \ufffd");
  // Also when another sender has escaped one.
  const body = JSON.stringify([entry]).replace('"ada"', '"\\uDBFF\\ud83d\\uDE00"');
  expect(readEvent(new Headers(HEADERS), body)).toMatchObject({ entries: [{ username: "\ufffd😀" }] });
});

test("an event has an id of its own and the attributes that Triggers and consumers rely on", async () => {
  const newest = "2026-01-31T12:00:00.002Z";
  const entries = [entry, { ...entry, timestamp: newest }, { ...entry, seq: 3 }];
  const events = [...toEvents(SOURCE, entries, { env: "x" }), ...toEvents(SOURCE, [entry])];
  const [first, second] = await Promise.all(events.map(encodeEvent));
  expect(first?.headers).toEqual({
    ...HEADERS,
    "ce-id": expect.stringMatching(/^[0-9a-f-]{36}$/),
    "ce-time": newest,
    "ce-count": "3",
    "ce-env": "x",
  });
  expect(second?.headers["ce-id"]).not.toBe(first?.headers["ce-id"]);
});

test("an event and its headers stay within 64 KiB, and are as full as that allows; an entry above goes alone", async () => {
  const extensions = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`a${i}`, "é".repeat(40)]));
  const overrides = eventOverrides.parse(JSON.stringify({ extensions }));
  const size = fc.oneof({ weight: 9, arbitrary: fc.nat(3_000) }, { weight: 1, arbitrary: fc.nat(70_000) });
  const names = fc.tuple(fc.constantFrom("x", "é"), size).map(([letter, times]) => letter.repeat(times));
  await fc.assert(
    fc.asyncProperty(fc.array(names, { minLength: 40, maxLength: 120, size: "max" }), async (names) => {
      const entries = names.map((username, i) => ({ ...entry, seq: i + 1, username }));
      const events = await Promise.all(toEvents(SOURCE, entries, overrides).map(encodeEvent));
      const read = events.map(({ headers, body }) => readEvent(new Headers(headers), body));
      const got = read.map((event) => ("refused" in event ? [] : event.entries));
      expect(got.flat()).toEqual(entries);
      for (const [i, event] of events.entries()) {
        if ((got[i] ?? []).length > 1) expect(sizeOf(event)).toBeLessThanOrEqual(MAX_EVENT_BYTES);
        const next = got[i + 1]?.[0];
        const room = MAX_EVENT_BYTES - sizeOf(event) - 3 * 1024;
        if (next !== undefined) expect(Buffer.byteLength(JSON.stringify(next))).toBeGreaterThan(room);
      }
    }),
    { numRuns: 60 },
  );
});

test("K_CE_OVERRIDES: extensions are added, percent-encoded where a header could not carry them", () => {
  const parse = (value: unknown) => eventOverrides.safeParse(JSON.stringify(value)).data;
  expect(parse({ extensions: { env: "prod", zone: 'a "b" 100% é\r\nx: y' } })).toEqual({
    env: "prod",
    zone: "a%20%22b%22%20100%25%20%C3%A9%0D%0Ax:%20y",
  });
  const none = ["{}", '{"extensions": {}}', '{"extensions": null}', '{"extensions": {"__proto__": "x"}}'];
  expect(none.map((text) => eventOverrides.parse(text))).toEqual([{}, {}, {}, {}]);
});

test("K_CE_OVERRIDES: what could break an event or replace what consumers rely on is a configuration error", () => {
  const own = ["id", "source", "type", "subject", "time", "data", "specversion", "tenantid", "count"];
  const names = [...own, "datacontenttype", "dataschema", "A", "a-b", "a_b", "", "a".repeat(21)];
  const values = ['""', "1", "null", "{}", `"${"x".repeat(257)}"`, `"${"é".repeat(43)}"`];
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`a${i}`, "x"])));
  const extensions = [
    ...names.map((name) => `{"${name}": "x"}`),
    ...values.map((value) => `{"a": ${value}}`),
    ...['"a"', "[]", many],
  ].map((value) => `{"extensions": ${value}}`);
  const others = ["", "{", "null", "[]", '"x"', "1", `{"a":"${"x".repeat(20_000)}"}`];
  const accepted = [...extensions, ...others].filter((text) => eventOverrides.safeParse(text).success);
  expect(accepted).toEqual([]);
});

const reason = (changes: Record<string, string | undefined>, data: unknown = [entry]): unknown => {
  const headers = Object.entries({ ...HEADERS, ...changes }).filter((pair) => pair[1] !== undefined);
  const body = typeof data === "string" ? data : JSON.stringify(data);
  const result = readEvent(new Headers(headers as [string, string][]), body);
  return "refused" in result ? result.refused : "read";
};

test("an event that is not ours is refused with the reason", () => {
  const type = "application/cloudevents";
  const two = { "ce-count": "2" };
  const refusals: Record<string, unknown[]> = {
    read: [
      reason({}),
      reason({ "ce-knativearrivaltime": "x", "ce-time": "x", "ce-partitionkey": "\xff" }),
      reason({ "content-type": "Application/JSON; charset=utf-8" }),
      // To be quarantined, which a refusal would not be the way to.
      reason({}, [{ ...entry, username: "x".repeat(300_000) }]),
    ],
    batch_mode: [reason({ "content-type": `${type}-batch+json; charset=utf-8` })],
    not_an_event: [
      ...["ce-specversion", "ce-id", "ce-source", "ce-type"].map((name) => reason({ [name]: undefined })),
      ...["ce-specversion", "ce-id", "ce-source", "ce-type"].map((name) => reason({ [name]: "" })),
      reason({ "ce-specversion": "0.3" }),
      ...["", "{", "[]", "null", '"x"', "{}"].map((body) => reason({ "content-type": `${type}+json` }, body)),
    ],
    wrong_type: [reason({ "ce-type": "dev.latchkey.other" }), reason({ "ce-type": "toString" })],
    unknown_action: ["toString", "", "get_key ,x", "GET_KEY"].map((action) =>
      reason({ "ce-type": `dev.latchkey.audit.${action}` }),
    ),
    bad_tenant: [
      ...["Tenant1", "", "a:b", "a, a"].map((id) => reason({ "ce-tenantid": id, "ce-subject": id })),
      ...["b", "", undefined].map((id) => reason({ "ce-tenantid": id })),
      ...["b", "", undefined].map((id) => reason({ "ce-subject": id })),
    ],
    not_json: [
      ...["text/plain", "", `${type}+xml`].map((media) => reason({ "content-type": media })),
      ...["", "[", "[}", "[".repeat(500_000)].map((body) => reason({}, body)),
    ],
    not_an_array: [reason({}, entry), reason({}, '"[]"')],
    no_entries: [reason({ "ce-count": "0" }, [])],
    too_many_entries: [reason({ "ce-count": "501" }, Array(501).fill(entry))],
    count_mismatch: ["2", "0x1", "01", "", undefined].map((count) => reason({ "ce-count": count })),
    malformed_entry: [
      ...[null, { ...entry, password: "x" }].map((one) => reason({}, [one])),
      ...["", "evt_1", "evt_0123456789abcde\n", `${entry.id}x`, "x".repeat(10_000)].map((id) =>
        reason({}, [{ ...entry, id }]),
      ),
    ],
    other_tenant: [reason(two, [entry, { ...entry, tenant_id: "tenant2" }])],
    other_action: [reason(two, [entry, { ...entry, action: "delete_key" }])],
    too_large: [reason({}, [{ ...entry, username: "x".repeat(1024 * 1024) }])],
  };
  const wrong = Object.entries(refusals).flatMap(([expected, got]) =>
    got.filter((one) => one !== expected).map((one) => [expected, one]),
  );
  expect(wrong).toEqual([]);
});

test("whatever stands in headers and body, the answer is entries of that tenant and action or a reason, never an error", () => {
  const own = Object.entries(HEADERS).map(([name, value]) => [name.replace("ce-", ""), value]);
  const event = { ...Object.fromEntries(own), data: [entry] };
  const key = fc.constantFrom("toString", "valueOf", "__proto__", "length", "0");
  const junk = fc.oneof(fc.jsonValue(), fc.dictionary(key, fc.jsonValue()), hostile);
  const spoil = (whole: object) => {
    const changes = fc.dictionary(fc.constantFrom(...Object.keys(whole)), junk, { minKeys: 1 });
    return changes.map((all) => ({ ...whole, ...all }));
  };
  const spoiled = spoil(entry).map((one) => ({ ...event, data: [one] }));
  const json = fc
    .oneof(junk, spoil(event), fc.array(spoil(entry)), spoiled)
    .map((one) => JSON.stringify(one));
  const type = fc.constantFrom("application/json", "application/cloudevents+json", "text/plain");
  const headers = fc
    .tuple(fc.option(type), fc.dictionary(fc.constantFrom(...Object.keys(HEADERS)), hostile))
    .map(([media, changes]) => new Map(Object.entries({ ...HEADERS, ...changes, "content-type": media })));
  const structured = new Map([["content-type", "application/cloudevents+json"]]);
  const unprintable = JSON.stringify({ ...event, count: { toString: 1, valueOf: 1 } });
  fc.assert(
    fc.property(headers, fc.oneof(json, hostile), (headers, body) => {
      const result = readEvent({ get: (name) => headers.get(name) ?? null }, body);
      if ("refused" in result) expect(result.refused).toMatch(/^[a-z_]+$/);
      else
        expect(result.entries.map(groupOf)).toEqual(
          result.entries.map(() => `${result.tenantId} ${result.action}`),
        );
    }),
    { numRuns: 1_500, examples: [[structured, unprintable]] },
  );
});
