/** What leaves an outbox is what was meant, and nothing else. */
import { afterAll, expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { createOutbox } from "../shared/redis/outbox.ts";
import { createHarness, type TestTenant } from "./support/harness.ts";
import { eventIdOf } from "./support/loki-tools.ts";
import { ownRedis } from "./support/own-redis.ts";

const api = await createHarness();
const outbox = createOutbox(api.store);
afterAll(() => api.close());

/** A tenant with entries 1..count in its outbox. */
async function tenantWith(count: number): Promise<[tenant: TestTenant, entries: AuditEntry[]]> {
  const tenant = await api.tenant();
  for (let i = 0; i < count; i += 1) await api.send("GET", "/users/me", { as: tenant.user.token });
  return [tenant, await api.trail(tenant)];
}

/** Another entry under the same number, as a failover that lost the first one can make it. */
const twinOf = (entry: AuditEntry): AuditEntry => ({ ...entry, id: eventIdOf(`twin of ${entry.id}`) });

const waiting = async (tenant: TestTenant) => (await api.trail(tenant)).map(({ seq }) => seq);

test("entries leave by number and id: one whose number was given twice stays when the other one is taken out", async () => {
  const [tenant, entries] = await tenantWith(3);
  await outbox.remove(tenant.id, entries.map(twinOf));
  expect(await waiting(tenant)).toEqual([1, 2, 3]);
  await outbox.remove(tenant.id, entries.slice(1));
  expect(await waiting(tenant)).toEqual([1]);
});

test("an entry is quarantined when it is in the outbox, and it is told whether it was", async () => {
  const [tenant, entries] = await tenantWith(2);
  const [first, second] = entries as [AuditEntry, AuditEntry];
  expect(await outbox.quarantine(tenant.id, twinOf(first), "refused")).toBe(false);
  expect([await waiting(tenant), await api.redis.exists(tenant.keys.quarantine)]).toEqual([[1, 2], 0]);
  expect(await outbox.quarantine(tenant.id, first, "refused")).toBe(true);
  expect(await outbox.quarantine(tenant.id, first, "again")).toBe(false);
  expect(await waiting(tenant)).toEqual([2]);
  const kept = Object.values(await api.redis.hgetall(tenant.keys.quarantine)).map((text) => JSON.parse(text));
  expect(kept).toEqual([{ entry: first, reason: "refused", at: expect.stringMatching(/Z$/) }]);
  await outbox.remove(tenant.id, [second]);
  expect(await api.redis.zscore(tenant.keys.pending, tenant.id)).toBeNull();
});

test("it is known since when the oldest entry waits, and what is remembered is never later than what comes", async () => {
  const [tenant, entries] = await tenantWith(3);
  const times = entries.map(({ timestamp }) => Date.parse(timestamp)) as [number, number, number];
  const now = () => outbox.waitingSince(tenant.id, Number.POSITIVE_INFINITY);
  expect(await now()).toBe(times[0]);
  await outbox.remove(tenant.id, entries.slice(0, 2));
  expect(await outbox.waitingSince(tenant.id, times[0])).toBe(times[0]);
  expect(await now()).toBe(times[2]);
  await outbox.remove(tenant.id, entries);
  expect(await now()).toBe(times[2]);
  // Nothing waits, and what is written next is older than what is asked about then.
  await api.send("GET", "/users/me", { as: tenant.user.token });
  const [next] = await api.trail(tenant);
  expect(await outbox.waitingSince(tenant.id, Date.parse(next?.timestamp ?? "") + 1)).toBe(
    Date.parse(next?.timestamp ?? ""),
  );
});

test("nothing is handed out to be published that a failover could still lose", async () => {
  const own = await ownRedis();
  const alone = await createHarness({ REDIS_URL: own.url });
  const tenant = await alone.tenant();
  await alone.send("GET", "/users/me", { as: tenant.user.token });
  const watched: string[] = [];
  const unconfirmed = createOutbox({
    ...alone.store,
    watch: async (key) => {
      watched.push(key);
      return () => Promise.reject(new Error("no replica has it"));
    },
  });
  const end = Number.POSITIVE_INFINITY;
  await expect(unconfirmed.overdue(end, 10)).rejects.toThrow("no replica has it");
  await expect(unconfirmed.ofTenant(tenant.id, end, 10)).rejects.toThrow("no replica has it");
  expect(watched).toEqual([tenant.keys.pending, tenant.keys.outbox]);
  expect(await createOutbox(alone.store).overdue(end, 10)).toHaveLength(1);
  await alone.close();
  await own.stop();
});

test("of few tenants the overdue are taken in equal shares, up to all that one look may take", async () => {
  const store = await ownRedis();
  const alone = await createHarness({ REDIS_URL: store.url });
  const busy = await Promise.all([alone.tenant(), alone.tenant()]);
  const quiet = await alone.tenant();
  for (let i = 0; i < 8; i += 1) {
    await Promise.all(
      busy.flatMap(({ user }) =>
        Array.from({ length: 100 }, () => alone.send("GET", "/users/me", { as: user.token })),
      ),
    );
  }
  await alone.send("GET", "/users/me", { as: quiet.user.token });
  const found = await createOutbox(alone.store).overdue(Number.POSITIVE_INFINITY, 1_800);
  const taken = (tenant: TestTenant) =>
    found.filter(({ tenant_id }) => tenant_id === tenant.id).map(({ seq }) => seq);
  const oldest = Array.from({ length: 600 }, (_, i) => i + 1);
  expect([...busy, quiet].map(taken)).toEqual([oldest, oldest, [1]]);
  await alone.close();
  await store.stop();
});
