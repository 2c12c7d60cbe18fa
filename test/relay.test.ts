/** The relay goes on, whatever stands in an outbox. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { streamIdOf } from "../shared/redis/keys.ts";
import type { TestTenant } from "./support/harness.ts";
import { startDouble, type TestLoki } from "./support/loki.ts";
import { entryOf } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";

let loki: TestLoki;
let pipeline: Awaited<ReturnType<typeof startPipeline>>;
beforeAll(async () => {
  loki = await startDouble({});
  pipeline = await startPipeline(loki.url);
});
afterAll(async () => {
  await pipeline?.stop();
  await loki?.stop();
});

/** Put a record into a tenant's outbox that has been left there, under the tenant's next number. */
async function leave(tenant: TestTenant, change: Record<string, unknown> = {}): Promise<AuditEntry> {
  const { redis } = pipeline.api;
  const seq = await redis.hincrby(tenant.keys.tenant, "seq", 1);
  const entry = entryOf({ tenant_id: tenant.id, seq, at: Date.now() - 60_000, details: {} });
  const { id, action, request_id, target, details } = entry;
  const fields = Object.entries({
    context: JSON.stringify({ id, action, request_id, target, details, ...change }),
    at: Date.parse(entry.timestamp),
    ...{ outcome: "success", reason: "", actor: "user:usr_1", username: "ada" },
  });
  await redis.xadd(tenant.keys.outbox, streamIdOf(entry), ...fields.flat().map(String));
  await redis.incr(tenant.keys.backlog);
  await redis.zadd(tenant.keys.pending, Date.now() - 60_000, tenant.id);
  return entry;
}

test("an entry that no event can carry is quarantined with the reason, and makes no dead letters", async () => {
  const { api, tick } = pipeline;
  const tenant = await api.tenant();
  const poison = await leave(tenant, { details: { name: "x".repeat(1024 * 1024) } });
  await leave(tenant);
  for (let ticks = 0; ticks < 2; ticks += 1) expect((await tick("audit-relay")).status).toBe(204);
  await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
  expect(await pipeline.loki.tenant(tenant.id).seqs()).toEqual([2]);
  const kept = await api.redis.hgetall(tenant.keys.quarantine);
  expect(Object.keys(kept)).toEqual([streamIdOf(poison)]);
  expect(JSON.parse(Object.values(kept)[0] ?? "{}")).toMatchObject({
    entry: { id: poison.id, seq: 1 },
    reason: "it is too large for an event",
  });
  expect(await api.redis.xlen("dead-letters")).toBe(0);
});

test("a record that this release cannot read stays where it is and holds up nobody", async () => {
  const { api, tick } = pipeline;
  const [newer, other] = [await api.tenant(), await api.tenant()];
  await leave(newer, { action: "an_action_of_tomorrow" });
  await leave(newer);
  await leave(other);
  expect((await tick("audit-relay")).status).toBe(204);
  await expect.poll(() => pipeline.loki.tenant(other.id).seqs()).toEqual([1]);
  await expect.poll(() => pipeline.loki.tenant(newer.id).seqs()).toEqual([2]);
  await expect.poll(() => pipeline.waiting(newer)).toBe(1);
  const [[id, fields] = ["", []]] = await api.redis.xrange(newer.keys.outbox, "-", "+");
  expect([id.split("-")[0], fields.join()]).toEqual(["1", expect.stringContaining("an_action_of_tomorrow")]);
});
