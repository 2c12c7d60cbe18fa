/** One entry that Loki will never take, among ten thousand that it will; and one tenant that it takes nothing from. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { toEvents } from "../shared/events.ts";
import { nsOf } from "../shared/loki.ts";
import { encodeEvent } from "../shared/node/cloud-events.ts";
import { streamIdOf } from "../shared/redis/keys.ts";
import { forEachLoki } from "./support/each-loki.ts";
import type { TestTenant } from "./support/harness.ts";
import { startDouble } from "./support/loki.ts";
import { DAY, entryOf } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";

type Pipeline = Awaited<ReturnType<typeof startPipeline>>;
const MANY = 10_000;

/** Put entries into a tenant's outbox as scripts do, and deliver them to audit-ship as the broker does. */
async function deliver(
  { api, ship }: Pipeline,
  tenant: TestTenant,
  entries: readonly AuditEntry[],
): Promise<void> {
  const pipeline = api.redis.pipeline();
  for (const entry of entries) {
    const { id, action, timestamp } = entry;
    const context = JSON.stringify({
      id,
      action,
      request_id: "r",
      target: { type: "item", id: "i" },
      details: {},
    });
    const fields = {
      context,
      at: Date.parse(timestamp),
      outcome: "success",
      reason: "",
      actor: "user:u",
      username: "u",
    };
    pipeline.xadd(tenant.keys.outbox, streamIdOf(entry), ...Object.entries(fields).flat().map(String));
  }
  pipeline.incrby(tenant.keys.backlog, entries.length);
  pipeline.hset(tenant.keys.tenant, "seq", entries.length);
  await pipeline.exec();
  const events = await Promise.all(toEvents("/functions/test", entries).map(encodeEvent));
  await Promise.all(
    events.map(async ({ headers, body }) => {
      const answer = await fetch(`${ship.origin}/events/audit-ship`, { method: "POST", headers, body });
      expect([answer.status, await answer.text()]).toEqual([204, ""]);
    }),
  );
}

forEachLoki({}, ({ loki }) => {
  let pipeline: Pipeline;
  beforeAll(async () => {
    pipeline = await startPipeline(loki().url);
  });
  afterAll(() => pipeline?.stop());

  test.each<[string, Partial<AuditEntry> & { at?: number }]>([
    ["a line of 300 KB", { details: { name: "x".repeat(300_000) } }],
    ["a time of 40 days ago", { at: Date.now() - 40 * DAY }],
  ])(
    "%s among 10,000: 9,999 arrive, it is quarantined with Loki's reason, and nothing waits for it",
    async (_, poison) => {
      const tenant = await pipeline.api.tenant();
      const at = Date.now() - 1_000;
      const entries = Array.from({ length: MANY }, (_, index) =>
        entryOf({ tenant_id: tenant.id, seq: index + 1, at, ...(index === MANY / 2 ? poison : {}) }),
      );
      await deliver(pipeline, tenant, entries);
      expect(await pipeline.waiting(tenant)).toBe(0);
      const quarantined = await pipeline.api.redis.hgetall(tenant.keys.quarantine);
      const name = streamIdOf(entries[MANY / 2] as AuditEntry);
      expect(Object.keys(quarantined)).toEqual([name]);
      const kept = JSON.parse(quarantined[name] ?? "{}");
      expect(kept.entry).toEqual(entries[MANY / 2]);
      expect(kept.reason.length).toBeGreaterThan(10);

      // A query answers 5,000 at most: the newer half, and what is older than its oldest line.
      const space = pipeline.loki.tenant(tenant.id);
      const newer = await space.lines();
      const older = await space.lines({ end: newer.at(-1)?.ns ?? "" });
      const seqs = [...newer, ...older].map(({ line }) => JSON.parse(line).seq);
      expect(seqs).toHaveLength(MANY - 1);
      expect(new Set(seqs).size).toBe(MANY - 1);
      expect(seqs).not.toContain(MANY / 2 + 1);
      expect(nsOf(entries[0] as AuditEntry)).toBe(older.at(-1)?.ns);
    },
    120_000,
  );

  test("half a character in an entry is made whole on the way, and the entry arrives", async () => {
    const tenant = await pipeline.api.tenant();
    const target = { type: "item", id: "\ud800" };
    await deliver(pipeline, tenant, [entryOf({ tenant_id: tenant.id, seq: 1, target })]);
    const [line] = await pipeline.loki.tenant(tenant.id).lines();
    expect(JSON.parse(line?.line ?? "{}").target.id).toBe("\ufffd");
  });
});

test("a tenant that Loki answers 429 holds up nobody else, and has all its entries in the end", async () => {
  const double = await startDouble({});
  const pipeline = await startPipeline(double.url);
  const { api } = pipeline;
  const [held, other] = [await api.tenant(), await api.tenant()];
  const arrived = async (tenant: TestTenant) => (await pipeline.loki.tenant(tenant.id).seqs()).length;
  double.hold(held.id);
  for (let i = 0; i < 20; i += 1) await api.send("GET", "/users/me", { as: held.user.token });
  await expect.poll(() => double.pushes.filter(({ status }) => status === 429).length).toBeGreaterThan(2);
  for (let i = 0; i < 20; i += 1) await api.send("GET", "/users/me", { as: other.user.token });
  await expect.poll(() => arrived(other)).toBe(20);
  expect(await arrived(held)).toBe(0);
  double.release(held.id);
  await expect.poll(() => arrived(held)).toBe(20);
  await expect.poll(() => pipeline.waiting(held)).toBe(0);
  await pipeline.stop();
  await double.stop();
});
