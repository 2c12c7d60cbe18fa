/** From an operation to its line in Loki: through functions, broker, audit-ship and relay, as they are deployed. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { toEvents } from "../shared/events.ts";
import { pushBody } from "../shared/loki.ts";
import { encodeEvent } from "../shared/node/cloud-events.ts";
import { streamIdOf } from "../shared/redis/keys.ts";
import { forEachLoki } from "./support/each-loki.ts";
import { createHarness, type TestTenant } from "./support/harness.ts";
import { entriesOf, entryOf } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";

type Pipeline = Awaited<ReturnType<typeof startPipeline>>;

/** Sequence numbers in Loki, oldest first. */
async function arrived({ loki }: Pipeline, tenant: TestTenant): Promise<(number | undefined)[]> {
  return (await loki.tenant(tenant.id).seqs()).reverse();
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

forEachLoki({}, ({ loki, ours }) => {
  let pipeline: Pipeline;
  beforeAll(async () => {
    pipeline = await startPipeline(loki().url);
  });
  afterAll(() => pipeline?.stop());

  /** All that the pages of a query hold. */
  async function pages(tenant: TestTenant, query: string, { send } = pipeline.api): Promise<AuditEntry[]> {
    const entries: AuditEntry[] = [];
    let cursor = "";
    for (let page = 0; page < 100; page += 1) {
      const { body } = await send("GET", `/audit?${query}${cursor}`, { as: tenant.admin.token });
      entries.push(...body.data);
      if (body.next_cursor === null) return entries;
      cursor = `&cursor=${body.next_cursor}`;
    }
    throw new Error("the pages do not end");
  }

  /** Ten operations of five kinds, denied and failed ones among them. */
  async function work(tenant: TestTenant): Promise<void> {
    const { api } = pipeline;
    const as = tenant.admin.token;
    const key = await api.apiKey(tenant);
    await api.send("POST", "/data", { as: key.text, json: { key: "a", value: 1 } });
    await api.send("POST", "/data", { as: key.text, json: { key: "a", value: 1 } });
    await api.send("PUT", "/data/a", { as, json: { value: 2 } });
    await api.send("GET", "/data/a", { as: key.text });
    await api.send("DELETE", "/data/a", { as });
    await api.send("GET", "/audit", { as: tenant.user.token });
    await api.send("DELETE", `/api-keys/${key.id}`, { as });
    await api.send("GET", "/data/a", { as: key.text });
    await api.send("POST", "/data", { as, raw: "{", headers: { "content-type": "application/json" } });
  }

  test("every operation's entry reaches the tenant's own Loki space once, as it stood in the outbox, and leaves it", async () => {
    const { api } = pipeline;
    const [tenant, other] = [await api.tenant(), await api.tenant()];
    await Promise.all([work(tenant), work(other)]);
    await expect.poll(() => arrived(pipeline, tenant)).toEqual(upTo(10));
    await expect.poll(() => arrived(pipeline, other)).toEqual(upTo(10));
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    const lines = (await pipeline.loki.tenant(tenant.id).lines()).map(({ line }) => JSON.parse(line));
    expect(new Set(lines.map(({ tenant_id }) => tenant_id))).toEqual(new Set([tenant.id]));
    expect(lines[0]).toMatchObject({ seq: 10, action: "create_key", outcome: "failure" });
  });

  test("what the broker did not take, the relay publishes: nothing is lost and nothing arrives twice", async () => {
    const { api, tick } = pipeline;
    const tenant = await api.tenant();
    await api.send("GET", "/users/me", { as: tenant.user.token });
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    // As if it had been lost: an entry that no event was sent for, old enough to be looked for.
    const at = Date.now() - 60_000;
    const lost = entryOf({ tenant_id: tenant.id, seq: 2 });
    const context = JSON.stringify({
      ...{ id: lost.id, action: "get_user", request_id: "r" },
      ...{ target: { type: "user", id: "u" }, details: {} },
    });
    const actor = `user:${tenant.user.id}`;
    const fields = { context, at, outcome: "success", reason: "", actor, username: "u" };
    await api.redis.xadd(tenant.keys.outbox, streamIdOf(lost), ...Object.entries(fields).flat().map(String));
    await api.redis.incr(tenant.keys.backlog);
    await api.redis.hset(tenant.keys.tenant, "seq", 2);
    await api.redis.zadd(tenant.keys.pending, at, tenant.id);
    const ticks = await Promise.all([tick("audit-relay"), tick("audit-relay")]);
    expect(await Promise.all(ticks.map(async (tick) => [tick.status, await tick.text()]))).toEqual([
      [204, ""],
      [204, ""],
    ]);
    await expect.poll(() => arrived(pipeline, tenant)).toEqual([2, 1]);
    expect(await pipeline.waiting(tenant)).toBe(0);
  });

  test("when all is quiet the books are closed: no backlog, and no tenant is pending", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    await work(tenant);
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    expect(await api.redis.zscore(tenant.keys.pending, tenant.id)).toBeNull();
    // Of its shard, where others may have something waiting.
    const shard = tenant.keys.backlog.replace(":backlog", "");
    const outboxes = await api.redis.keys(`${shard.replaceAll(/[{}]/g, "\\$&")}:*:outbox`);
    const waiting = await Promise.all(outboxes.map((key) => api.redis.xlen(key)));
    const sum = waiting.reduce((total, one) => total + one, 0);
    await expect.poll(async () => Number(await api.redis.get(tenant.keys.backlog))).toBe(sum);
  });

  test("GET /audit shows the whole trail once, wherever its entries are, page by page and through filters", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    await work(tenant);
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    const shipped = await pages(tenant, "limit=3");
    expect(shipped.map(({ seq }) => seq).slice(-10)).toEqual(upTo(10).reverse());

    // From here on nobody publishes: what follows stays in the outbox.
    const quiet = await createHarness({
      ...api.secrets,
      REDIS_URL: pipeline.store.url,
      LOKI_URL: loki().url,
    });
    for (let i = 0; i < 4; i += 1) await quiet.send("GET", "/data/a", { as: tenant.user.token });
    const waiting = await quiet.send("GET", "/audit?limit=2", { as: tenant.admin.token });
    expect(waiting.body.data).toMatchObject([{ action: "get_key" }, { action: "get_key" }]);
    for (const limit of [1, 2, 3, 7, 100]) {
      const all = await pages(tenant, `limit=${limit}`, quiet);
      const seqs = all.map(({ seq }) => seq);
      expect([limit, seqs]).toEqual([limit, upTo(seqs.length).reverse()]);
      const reads = await pages(tenant, `limit=${limit}&action=get_key`, quiet);
      expect([limit, reads]).toEqual([limit, all.filter(({ action }) => action === "get_key")]);
      const denied = await pages(tenant, `limit=${limit}&outcome=denied&actor=${tenant.user.id}`, quiet);
      expect(denied).toMatchObject([{ action: "list_audit", outcome: "denied" }]);
    }
    await quiet.close();
  });

  test("the proof of a whole trail: over Loki, outbox and quarantine; a missing entry is a gap, a second one a duplicate", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    const verify = async (query = "") =>
      (await api.send("GET", `/audit/integrity${query}`, { as: tenant.admin.token })).body;
    await work(tenant);
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    expect(await verify()).toEqual({
      first: 1,
      last: 10,
      found: 10,
      gaps: [],
      duplicates: [],
      complete: true,
    });
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);

    // Numbers 12 and 13 are given out, and only 14 leaves an entry.
    await api.redis.hincrby(tenant.keys.tenant, "seq", 2);
    expect(await verify()).toMatchObject({ found: 11, gaps: [{ from: 12, to: 13 }] });
    await api.redis.hset(tenant.keys.quarantine, "13-1", "{}");
    const { ns } = (await pipeline.loki.tenant(tenant.id).lines())[0] as { ns: string };
    const twin = entryOf({
      tenant_id: tenant.id,
      seq: 5,
      id: "evt_0000000000000twn",
      at: Number(BigInt(ns) / 1_000_000n),
    });
    await pipeline.loki.tenant(tenant.id).push(pushBody([twin]));
    expect(await verify()).toMatchObject({ gaps: [{ from: 12, to: 12 }], duplicates: [5], complete: true });
    expect(await verify(`?to=${new Date(Date.now() - 3_600_000).toISOString()}`)).toMatchObject({
      found: 0,
      gaps: [],
    });
  });

  ours("GET /audit says so when Loki cannot be asked, and does not show half a trail", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    await loki().kill();
    const { status, body } = await api.send("GET", "/audit", { as: tenant.admin.token });
    await loki().restart();
    expect([status, body.code]).toEqual([503, "store_unavailable"]);
  });

  test("an admin can have the tenant's outbox sent at once", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    const answer = await api.send("POST", "/trigger-log-offload", { as: tenant.admin.token });
    expect([answer.status, answer.body]).toEqual([202, { task_id: expect.stringMatching(/^task_/) }]);
    const refused = await api.send("POST", "/trigger-log-offload", { as: tenant.user.token });
    expect(refused.status).toBe(403);
  });

  test("an item's expiry reaches Loki with its true time", async () => {
    const { api, tick } = pipeline;
    const tenant = await api.tenant();
    await api.send("POST", "/data", { as: tenant.user.token, json: { key: "a", value: 1, ttl: 1 } });
    const expires = Number(await api.redis.zscore(tenant.keys.expiries, tenant.keys.item("a")));
    await expect.poll(() => Date.now()).toBeGreaterThan(expires);
    expect((await tick("data-expire")).status).toBe(204);
    await api.send("POST", "/trigger-log-offload", { as: tenant.admin.token });
    await expect.poll(() => arrived(pipeline, tenant)).toContain(2);
    const query = `{job="audit_logs", tenant_id="${tenant.id}", action="key_expiration"}`;
    const [line] = await pipeline.loki.tenant(tenant.id).lines({ query });
    expect(JSON.parse(line?.line ?? "{}").details.expires_at).toBe(new Date(expires).toISOString());
  });

  describe("what is not ours", () => {
    const post = async (entries: Parameters<typeof toEvents>[1], change: Record<string, string> = {}) => {
      const [event] = toEvents("/functions/stranger", entries);
      if (event === undefined) throw new Error("no entries");
      const { headers, body } = await encodeEvent(event);
      const response = await fetch(`${pipeline.ship.origin}/events/audit-ship`, {
        method: "POST",
        headers: { ...headers, ...change },
        body,
      });
      return { status: response.status, text: await response.text() };
    };

    test.each([
      ["an unknown tenant", "unknown_tenant", entriesOf("nobody-knows-me", 1), {}],
      [
        "an action nobody knows",
        "unknown_action",
        entriesOf("tenant1", 1),
        { "ce-type": "dev.latchkey.audit.steal" },
      ],
      ["a tenant id that is none", "bad_tenant", entriesOf("tenant1", 1), { "ce-tenantid": "a:b" }],
      [
        "entries of two tenants",
        "other_tenant",
        [entryOf({ tenant_id: "tenant2" })],
        { "ce-tenantid": "tenant1", "ce-subject": "tenant1" },
      ],
      [
        "a batch",
        "batch_mode",
        entriesOf("tenant1", 1),
        { "content-type": "application/cloudevents-batch+json" },
      ],
    ])("%s: 400, which sends it to the dead letters", async (_, reason, entries, change) => {
      const { status, text } = await post(entries, change);
      expect(status).toBe(400);
      expect(text).toContain(reason);
      // A Knative channel cannot take a longer error.
      expect(text.length).toBeLessThan(768);
    });
  });

  ours(
    "Loki is down for a while: operations go on, nothing is lost, all arrives in order when it is back",
    async () => {
      const { api, tick } = pipeline;
      const tenant = await api.tenant();
      await loki().kill();
      for (let i = 0; i < 20; i += 1) {
        expect((await api.send("GET", "/users/me", { as: tenant.user.token })).status).toBe(200);
      }
      expect(await pipeline.waiting(tenant)).toBe(20);
      await loki().restart();
      await tick("audit-relay");
      await expect.poll(() => arrived(pipeline, tenant)).toEqual(upTo(20));
      await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    },
  );
});
