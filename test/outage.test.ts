/** An outage that is longer than what Loki takes out of order: entries of its beginning arrive nevertheless. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { streamIdOf } from "../shared/redis/keys.ts";
import { forEachLoki } from "./support/each-loki.ts";
import type { TestTenant } from "./support/harness.ts";
import { entriesOf, HOUR } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";

type Pipeline = Awaited<ReturnType<typeof startPipeline>>;

/** As an outage leaves them: `count` entries of this action in the outbox, the first of them `age` ms old. */
async function leave({ api }: Pipeline, tenant: TestTenant, count: number, age: number): Promise<void> {
  const pipeline = api.redis.pipeline();
  const since = Date.now() - age;
  for (const entry of entriesOf(tenant.id, count, { action: "get_user" })) {
    const { id, action, seq, request_id, target, details } = entry;
    const at = since + Math.floor((seq - 1) * (age / count));
    const context = JSON.stringify({ id, action, request_id, target, details });
    const fields = { context, at, outcome: "success", reason: "", actor: "user:u", username: "u" };
    pipeline.xadd(tenant.keys.outbox, streamIdOf(entry), ...Object.entries(fields).flat().map(String));
  }
  pipeline.incrby(tenant.keys.backlog, count);
  pipeline.zadd(tenant.keys.pending, since, tenant.id);
  pipeline.hset(tenant.keys.tenant, "seq", count, "at", since + age);
  await pipeline.exec();
}

forEachLoki({}, ({ loki }) => {
  let pipeline: Pipeline;
  beforeAll(async () => {
    pipeline = await startPipeline(loki().url);
  });
  afterAll(() => pipeline?.stop());

  test("what happens now does not shut out what has waited for hours: all arrives, nothing is quarantined", async () => {
    const { api } = pipeline;
    const tenant = await api.tenant();
    await leave(pipeline, tenant, 800, 3 * HOUR);
    await api.send("GET", "/users/me", { as: tenant.user.token });
    const { seqs } = pipeline.loki.tenant(tenant.id);
    await expect.poll(seqs).toContain(801);
    // What has waited for less than that can still come, as always, with the next round of the relay.
    await pipeline.tick("audit-relay");
    await expect.poll(() => pipeline.waiting(tenant)).toBe(0);
    expect(await api.redis.hlen(tenant.keys.quarantine)).toBe(0);
    expect(await seqs()).toHaveLength(801);
  });
});
