/**
 * What the audit trail counts on in Loki: the same promises kept by the double, always, and by a real Loki where
 * LOKI_URL names one or a `loki` is on the PATH. A new version of Loki that behaves otherwise fails here.
 */
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { pushBody, toLokiEntry } from "../shared/loki.ts";
import { refusalOf, shipLimits } from "../shared/ship-batch.ts";
import { forEachLoki } from "./support/each-loki.ts";
import { DAY, entriesOf, entryOf, HOUR, MINUTE } from "./support/loki-tools.ts";
import { until } from "./support/process.ts";

const blocked = `blocked-${crypto.randomUUID()}`;
const slow = `slow-${crypto.randomUUID()}`;
const tenants = {
  [blocked]: { block_ingestion_until: "2999-01-01T00:00:00Z" },
  [slow]: { ingestion_rate_mb: 0.001, ingestion_burst_size_mb: 0.01 },
};

forEachLoki({ tenants }, ({ loki, tools, ours }) => {
  test("stores what it answers 204, plain or gzip, and gives it back byte for byte in order", async () => {
    const { tenant, push, client, lines } = tools().tenant();
    const entries = entriesOf(tenant, 5);
    expect(await push(pushBody(entries.slice(0, 2)))).toEqual({ status: 204, text: "" });
    expect(await client.push(tenant, pushBody(entries.slice(2)))).toEqual({ status: 204, text: "" });
    const expected = entries.map((entry) => ({ ns: toLokiEntry(entry)[0], line: toLokiEntry(entry)[1] }));
    expect(await lines({ direction: "forward" })).toEqual(expected);
    expect(await lines()).toEqual(expected.toReversed());
  });

  test("refuses who names no tenant with 401, and an id that may be none with 400", async () => {
    const body = pushBody(entriesOf("x", 1));
    for (const headers of [{}, { "X-Scope-OrgID": "" }] as HeadersInit[]) {
      expect(await tools().send("push", { body, headers })).toEqual({ status: 401, text: "no org id\n" });
      expect(
        (await tools().send(`query_range?query=${encodeURIComponent('{job="x"}')}`, { headers })).status,
      ).toBe(401);
    }
    for (const id of ["a|b", "a/b", "a b", ".", "..", "x".repeat(151)]) {
      expect((await tools().send("push", { body, headers: { "X-Scope-OrgID": id } })).status).toBe(400);
    }
  });

  test("stores tenant a:b under a, so an id must be checked before it becomes a header", async () => {
    const { tenant, lines } = tools().tenant();
    const headers = { "X-Scope-OrgID": `${tenant}:other` };
    expect((await tools().send("push", { body: pushBody(entriesOf(tenant, 1)), headers })).status).toBe(204);
    expect(await lines()).toHaveLength(1);
  });

  test.each<[string, string, RegExp, Partial<AuditEntry> & { at?: number }]>([
    [
      "too long",
      "line_too_long",
      /^max entry size '262144' bytes exceeded for stream .* with length '26\d{4}' bytes/,
      { request_id: "r".repeat(262_145) },
    ],
    [
      "31 days old",
      "too_old",
      /has timestamp too old: .*, oldest acceptable timestamp is: /,
      { at: Date.now() - 31 * DAY },
    ],
    ["ahead of the clock", "too_new", /has timestamp too new: /, { at: Date.now() + 11 * MINUTE }],
    [
      "too rich in metadata",
      "metadata",
      /has structured metadata too large: '\d+' bytes, limit: '65536' bytes/,
      { username: "u".repeat(66_000) },
    ],
  ])("400 for an entry that is %s (%s) stores the valid rest", async (_, refusal, reason, change) => {
    const { tenant, push, seqs } = tools().tenant();
    const [first, second, third] = entriesOf(tenant, 3);
    const answer = await push(pushBody([first, entryOf({ ...second, ...change }), third] as never));
    expect(answer).toEqual({ status: 400, text: expect.stringMatching(reason) });
    expect(refusalOf(answer, shipLimits).class).toBe(refusal);
    expect(await seqs()).toEqual([3, 1]);
  });

  test.each([
    ["not JSON", (body: string) => body.slice(0, -1)],
    ["a lone surrogate in a line", (body: string) => body.replace("item-2", "\\ud800")],
    ["a lone surrogate in metadata", (body: string) => body.replace('"event_id":"', '"event_id":"\\udc00')],
    ["a lone surrogate in a label", (body: string) => body.replace("audit_logs", "\\ud83d")],
    ["U+FFFD in a label", (body: string) => body.replace("audit_logs", "\ufffd")],
    ["a number as nanoseconds", (body: string) => body.replace(/"(\d{19})"/, "$1")],
    ["a number in metadata", (body: string) => body.replace('"seq":"2"', '"seq":2')],
  ])("400 for %s stores nothing", async (_, spoil) => {
    const { tenant, push, seqs } = tools().tenant();
    const body = pushBody(entriesOf(tenant, 3));
    expect(spoil(body)).not.toBe(body);
    expect((await push(spoil(body))).status).toBe(400);
    expect(await seqs()).toEqual([]);
  });

  test("400 for too many or too long labels, 422 for no stream", async () => {
    const { push } = tools().tenant();
    const withLabels = (stream: object) =>
      push({ streams: [{ stream, values: [[`${Date.now()}000000`, "x"]] }] });
    const many = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`l${index}`, "v"]));
    expect(await withLabels(many)).toMatchObject({
      status: 400,
      text: expect.stringMatching(/has 16 label names; limit 15/),
    });
    expect(await withLabels({ ["n".repeat(1025)]: "v" })).toMatchObject({ status: 400 });
    expect(await withLabels({ n: "v".repeat(2049) })).toMatchObject({ status: 400 });
    expect(await withLabels({})).toMatchObject({ status: 400 });
    expect(await push({ streams: [] })).toMatchObject({ status: 422 });
  });

  ours("260 is a 2xx that stores nothing", async () => {
    const { push, seqs } = tools().tenant(blocked);
    const answer = await push(pushBody(entriesOf(blocked, 1)));
    expect(answer).toEqual({ status: 260, text: expect.stringMatching(/^ingestion blocked for user/) });
    expect(await seqs()).toEqual([]);
  });

  ours(
    "429 for a push over the tenant's burst stores nothing, and comes for ever; a smaller one fits",
    async () => {
      const { push, seqs } = tools().tenant(slow);
      const entries = entriesOf(slow, 40);
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const answer = await push(pushBody(entries));
        expect(answer).toEqual({
          status: 429,
          text: expect.stringMatching(/^ingestion rate limit exceeded for user/),
        });
      }
      expect(await seqs()).toEqual([]);
      expect((await push(pushBody(entries.slice(0, 3)))).status).toBe(204);
    },
  );

  test("204 for several streams hides what a stream before the last one lost", async () => {
    const { tenant, push, seqs } = tools().tenant();
    const [old, fresh, other] = entriesOf(tenant, 3);
    const streams = [
      entryOf({ ...fresh }),
      entryOf({ ...old, at: Date.now() - 2 * HOUR }),
      entryOf({ ...other, action: "create_key" }),
    ].map((entry) => JSON.parse(pushBody([entry])).streams[0]);
    expect((await push({ streams })).status).toBe(204);
    expect(await seqs()).toEqual([3, 2]);
    expect((await push({ streams: streams.slice(1, 2) })).status).toBe(400);
  });

  test("refuses what is more than an hour behind the newest of its stream, even when it is stored already", async () => {
    const { tenant, push, seqs } = tools().tenant();
    const now = Date.now();
    const at = [now - 2 * HOUR, now, now - HOUR + MINUTE, now - HOUR - MINUTE];
    const [first, newest, within, behind] = at.map((at, index) =>
      entryOf({ tenant_id: tenant, seq: index + 1, at }),
    );
    expect((await push(pushBody([first] as never))).status).toBe(204);
    expect((await push(pushBody([newest] as never))).status).toBe(204);
    const answer = await push(pushBody([within, behind] as never));
    const reason =
      /^entry with timestamp .* ignored, reason: 'entry too far behind, .*total ignored: 1 out of 2 for stream/s;
    expect(answer).toEqual({ status: 400, text: expect.stringMatching(reason) });
    expect(refusalOf(answer, shipLimits)).toMatchObject({ class: "too_far_behind", maybeStored: true });
    expect((await push(pushBody([first] as never))).status).toBe(400);
    expect(await seqs()).toEqual([2, 3, 1]);
    const elsewhere = entryOf({ ...behind, action: "create_key", at: now - 2 * HOUR });
    expect((await push(pushBody([elsewhere]))).status).toBe(204);
  });

  test("what comes hours after its time is found at once", async () => {
    const { tenant, push, seqs } = tools().tenant();
    const [entry] = entriesOf(tenant, 1, { at: Date.now() - 20 * HOUR });
    expect((await push(pushBody([entry as never]))).status).toBe(204);
    expect(await seqs()).toEqual([1]);
  });

  test("shows exact duplicates once in log queries, also when the first was written out; counts tell twice", async () => {
    const { tenant, push, seqs, count } = tools().tenant();
    const body = pushBody(entriesOf(tenant, 3));
    const counted = `count_over_time({job="audit_logs", tenant_id="${tenant}"}[1h])`;
    for (let attempt = 0; attempt < 2; attempt += 1) expect((await push(body)).status).toBe(204);
    expect(await seqs()).toEqual([3, 2, 1]);
    expect((await tools().flush(tenant)).status).toBe(204);
    const areTwice = async () => (await push(body)).status === 204 && (await count(`sum(${counted})`)) === 6;
    await until("all to be there twice", areTwice);
    expect(await seqs()).toEqual([3, 2, 1]);
    expect(await count(`count(sum by (event_id)(${counted}))`)).toBe(3);
  });

  ours(
    "kill -9 loses nothing that was answered 204, written out or not, and resending changes nothing",
    async () => {
      const { tenant, push, seqs } = tools().tenant();
      const entries = entriesOf(tenant, 2_000);
      const bodies = [pushBody(entries.slice(0, 1_000)), pushBody(entries.slice(1_000))];
      for (const body of bodies) {
        expect((await push(body)).status).toBe(204);
        if (body === bodies[0]) await tools().flush(tenant);
      }
      await loki().kill();
      await expect(push(bodies[1] as string)).rejects.toThrow();
      await loki().restart();
      const newestFirst = entries.map(({ seq }) => seq).reverse();
      expect(await seqs()).toEqual(newestFirst);
      for (const body of bodies) expect((await push(body)).status).toBe(204);
      expect(await seqs()).toEqual(newestFirst);
    },
  );
});

/** Bytes; Loki's default, below what k8s/loki/loki.yaml sets. */
const maxMessageBytes = 4 * 1024 * 1024;
forEachLoki({ maxMessageBytes }, ({ tools, ours }) => {
  ours("500 for a push of more than 4 MiB stores nothing, and comes for ever; its halves fit", async () => {
    const { tenant, push, seqs, count } = tools().tenant();
    const entries = entriesOf(tenant, 24, { target: { type: "item", id: "i".repeat(180_000) } });
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const answer = await push(gzipSync(pushBody(entries)));
      expect(answer).toEqual({
        status: 500,
        text: expect.stringMatching(/received message larger than max/),
      });
    }
    expect(await seqs()).toEqual([]);
    expect((await push(pushBody(entries.slice(0, 12)))).status).toBe(204);
    expect((await push(pushBody(entries.slice(12)))).status).toBe(204);
    const ids = `count_over_time({job="audit_logs", tenant_id="${tenant}"}[1h])`;
    expect(await count(`count(sum by (event_id)(${ids}))`)).toBe(24);
  });
});
