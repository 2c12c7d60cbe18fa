/** What reading the audit trail counts on in Loki: as test/loki.test.ts, over the double and a real Loki. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AuditEntry, type AuditFilter, matchesFilter } from "../shared/audit.ts";
import { labelsOf, logQuery, MAX_QUERY_ENTRIES, pushBody, queryWindow, toLokiEntry } from "../shared/loki.ts";
import { createLokiClient } from "../shared/node/loki-client.ts";
import { forEachLoki } from "./support/each-loki.ts";
import { DAY, entriesOf, entryOf, HOUR } from "./support/loki-tools.ts";

/** Texts that would mean something else in LogQL, JSON or Go if they were not quoted right. */
const oddTexts = [
  'quote"',
  "back\\slash",
  "tick`",
  "line\nbreak",
  "nul\0",
  "\u2028\u0085\u007f",
  "\ufffd",
  "\u{1f600}",
  '"} or {job=~".+',
  '" | line_format "x',
  "a.b[0]",
  "%2F",
  " ",
];

forEachLoki({}, ({ tools }) => {
  test("counts more ids than Loki's default of 500 series exactly", async () => {
    const { tenant, push, count } = tools().tenant();
    expect((await push(pushBody(entriesOf(tenant, 700)))).status).toBe(204);
    const counted = `count_over_time({job="audit_logs", tenant_id="${tenant}"}[1h])`;
    expect(await count(`count(sum by (event_id)(${counted}))`)).toBe(700);
  });

  test("a query's start is in, its end is not, and more than 5,000 entries or 30 days and an hour are refused", async () => {
    const { tenant, push, lines, range } = tools().tenant();
    const entries = entriesOf(tenant, 4);
    await push(pushBody(entries));
    const [, second, , fourth] = entries.map((entry) => toLokiEntry(entry)[0]);
    expect((await lines({ start: second as string, end: fourth as string })).map(({ ns }) => ns).at(-1)).toBe(
      second,
    );
    expect(await lines({ start: second as string, end: fourth as string })).toHaveLength(2);
    expect(await lines({ limit: 3 })).toHaveLength(3);
    const end = BigInt(Date.now()) * 1_000_000n;
    const start = String(end - 721n * 3_600_000_000_000n);
    expect((await range({ limit: String(MAX_QUERY_ENTRIES + 1) })).status).toBe(400);
    expect((await range({ start, end: String(end) })).status).toBe(200);
    expect((await range({ start, end: String(end + 1_000_000n) })).status).toBe(400);
  });

  test("5,000 entries of the largest kind come in one answer", async () => {
    const { tenant, push, lines } = tools().tenant();
    const target = { type: "item", id: '"'.repeat(512) };
    const entries = entriesOf(tenant, MAX_QUERY_ENTRIES, { target, username: "u".repeat(128) });
    for (let at = 0; at < entries.length; at += 500) {
      expect((await push(pushBody(entries.slice(at, at + 500)))).status).toBe(204);
    }
    expect(await lines({ query: logQuery(tenant, { key: target.id }) })).toHaveLength(MAX_QUERY_ENTRIES);
  });

  test("windows and pages backwards read every entry once, although many share a millisecond", async () => {
    const { tenant, push, client } = tools().tenant();
    const now = Date.now();
    const ages = [29 * DAY, 29 * DAY, 10 * DAY, HOUR, 0, 0, 0, 0, 0];
    const entries = ages.map((age, index) => entryOf({ tenant_id: tenant, seq: index + 1, at: now - age }));
    for (const entry of entries) expect((await push(pushBody([entry]))).status).toBe(204);
    const seen: string[] = [];
    let before: string | undefined;
    for (;;) {
      const window = queryWindow({}, { now, retention: 366 * DAY, before });
      if (window === undefined) break;
      const page = { query: logQuery(tenant, {}), ...window, limit: 2, direction: "backward" } as const;
      const found = await client.queryRange(tenant, page);
      seen.push(...found.map(({ line }) => line));
      before = found.length === 2 ? found[1]?.ns : window.start;
    }
    expect(seen).toEqual(entries.map((entry) => toLokiEntry(entry)[1]).reverse());
  });

  test("the client says that the store is unavailable, and why, when a query is refused or nobody answers", async () => {
    const { tenant, client } = tools().tenant();
    const query = { query: "{", start: "1", end: "2", limit: 1, direction: "backward" } as const;
    const refused = {
      code: "store_unavailable",
      cause: expect.stringMatching(/^Loki answered 400: parse error/),
    };
    await expect(client.queryRange(tenant, query)).rejects.toMatchObject(refused);
    const nobody = createLokiClient({ url: "http://127.0.0.1:9" });
    await expect(nobody.queryRange(tenant, query)).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(nobody.push(tenant, "{}")).rejects.toThrow();
  });

  test("no text of a filter is a query of its own: any is understood, and finds only what matches", async () => {
    const { tenant, push, range } = tools().tenant();
    expect((await push(pushBody(entriesOf(tenant, 3)))).status).toBe(204);
    const anyText = fc.string({ unit: "binary", minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(anyText, anyText, async (key, actor) => {
        const { status, text } = await range({ query: logQuery(tenant, { key, actor }) });
        expect({ status, found: JSON.parse(text).data.result }).toEqual({ status: 200, found: [] });
      }),
      { numRuns: 25 },
    );
  });

  test("what is stored has the labels and metadata that were sent, and nothing that Loki thought of", async () => {
    const { tenant, push, range } = tools().tenant();
    const entry = entryOf({ tenant_id: tenant, details: { reason: "error: level=fatal" } });
    expect((await push(pushBody([entry]))).status).toBe(204);
    const [ns, line, metadata] = toLokiEntry(entry);
    const { data } = JSON.parse((await range({})).text);
    expect(data.result).toEqual([{ stream: { ...labelsOf(entry), ...metadata }, values: [[ns, line]] }]);
  });

  test("nobody deletes a tenant's entries by API", async () => {
    const { tenant } = tools().tenant();
    const query = new URLSearchParams({ query: logQuery(tenant, {}), start: "1" });
    const headers = { "X-Scope-OrgID": tenant };
    expect((await tools().send(`delete?${query}`, { body: "", headers })).status).toBe(403);
  });

  test("the original's queries work: all of a tenant, and by action", async () => {
    const { tenant, push, seqs } = tools().tenant();
    const actions = ["create_key", "get_key", "update_key", "delete_key", "create_api_key"] as const;
    const entries = actions.map((action, index) => entryOf({ tenant_id: tenant, action, seq: index + 1 }));
    for (const entry of entries) expect((await push(pushBody([entry]))).status).toBe(204);
    const all = `{job="audit_logs", tenant_id="${tenant}"}`;
    expect((await seqs(all)).sort()).toEqual([1, 2, 3, 4, 5]);
    for (const { action, seq } of entries) {
      expect(await seqs(all.replace("}", `, action="${action}"}`))).toEqual([seq]);
    }
  });

  test("a query of any filter finds every entry that matches it, and hardly another", async () => {
    const { tenant, push, lines } = tools().tenant();
    const entries = mixedEntries(tenant);
    for (const stream of Map.groupBy(entries, ({ action }) => action).values()) {
      expect((await push(pushBody(stream))).status).toBe(204);
    }
    const filters: AuditFilter[] = [
      {},
      { action: "get_key" },
      { outcome: "denied" },
      { action: "create_key", outcome: "success", actor: "key_1" },
      ...oddTexts.flatMap((text) => [{ key: text }, { actor: text }, { key: text, actor: text }]),
    ];
    for (const filter of filters) {
      const expected = entries.filter((entry) => matchesFilter(entry, filter));
      const found = (await lines({ query: logQuery(tenant, filter) })).map(
        ({ line }) => JSON.parse(line) as AuditEntry,
      );
      const matching = found.filter((entry) => matchesFilter(entry, filter));
      expect(matching.map(({ seq }) => seq)).toEqual(expected.map(({ seq }) => seq).reverse());
      // U+FFFD and a space are one to Loki.
      const blurred = /[\ufffd ]/.test(`${filter.key}${filter.actor}`);
      if (!blurred) expect(found).toHaveLength(matching.length);
    }
  });
});

function mixedEntries(tenant: string): AuditEntry[] {
  const at = Date.now();
  return oddTexts.flatMap((text, index) => [
    entryOf({
      tenant_id: tenant,
      seq: 2 * index + 1,
      at,
      action: "get_key",
      outcome: "denied",
      actor: { type: "user", id: text },
      username: text,
      target: { type: "item", id: text },
    }),
    entryOf({
      tenant_id: tenant,
      seq: 2 * index + 2,
      at,
      action: "create_key",
      actor: { type: "api_key", id: `key_${index}` },
      target: { type: "item", id: text },
    }),
  ]);
}
