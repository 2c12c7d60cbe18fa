/** An item whose time is over leaves exactly one entry, with the true time, and an item that was saved from it none. */
import { afterAll, expect, test } from "vitest";
import { expiryContext, recordExpiries } from "../shared/redis/expiry.ts";
import { createHarness, type TestTenant } from "./support/harness.ts";
import { ownRedis } from "./support/own-redis.ts";

const store = await ownRedis();
const api = await createHarness({ REDIS_URL: store.url });
afterAll(async () => {
  await api.close();
  await store.stop();
});

const record = (limit = 1_000_000) => recordExpiries(api.store, limit);
const create = (tenant: TestTenant, key: string, ttl?: number) =>
  api.send("POST", "/data", { as: tenant.admin.token, json: { key, value: 1, ...(ttl ? { ttl } : {}) } });
const expirations = async (tenant: TestTenant) =>
  (await api.trail(tenant)).filter(({ action }) => action === "key_expiration");

/** Let an item's time be over now, as if it had been waited for. */
async function expire(tenant: TestTenant, key: string, at = Date.now() - 1000): Promise<string> {
  const name = tenant.keys.item(key);
  await api.redis.zadd(tenant.keys.expiries, at, name);
  await api.redis.pexpireat(name, at);
  return new Date(at).toISOString();
}

test("an expiry is recorded once, with its true time, however many look for it at once", async () => {
  const tenant = await api.tenant();
  await create(tenant, "a:item:b", 60);
  const at = await expire(tenant, "a:item:b");
  await Promise.all([record(), record(), record()]);
  await record();
  expect(await expirations(tenant)).toMatchObject([
    {
      seq: 2,
      actor: { type: "system", id: "data-expire" },
      outcome: "success",
      target: { type: "item", id: "a:item:b" },
      details: { expires_at: at },
    },
  ]);
});

test("an item that was deleted, extended or freed from its expiry in time leaves none", async () => {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  for (const key of ["deleted", "extended", "freed", "lives"]) await create(tenant, key, 60);
  await api.send("DELETE", "/data/deleted", { as });
  await api.send("PUT", "/data/extended", { as, json: { value: 2, ttl: 120 } });
  await api.send("PUT", "/data/freed", { as, json: { value: 2 } });
  const later = Date.now() + 90_000;
  expect(await recordExpiries(api.store, 1_000_000, later)).toBe(0);
  expect(await expirations(tenant)).toEqual([]);
  expect(await api.redis.zrange(tenant.keys.expiries, "0", "-1")).toEqual(
    expect.arrayContaining([tenant.keys.item("extended"), tenant.keys.item("lives")]),
  );
  for (const key of ["freed", "deleted"])
    expect(await api.redis.zscore(tenant.keys.expiries, tenant.keys.item(key))).toBeNull();
});

test("an item that was due when somebody looked, and is recorded, deleted, extended or freed by then, leaves no entry", async () => {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  const recordAs = (key: string, at: number) => {
    const { tenant: record, outbox, pending, backlog, expiries } = tenant.keys;
    const keys = [record, tenant.keys.item(key), outbox, pending, backlog, expiries];
    return api.store.run("expire-item", keys, [String(at), expiryContext(key), "1000000"]);
  };
  const dueAt = async (key: string) =>
    Number(await api.redis.zscore(tenant.keys.expiries, tenant.keys.item(key)));
  for (const key of ["recorded", "deleted", "extended", "freed"]) await create(tenant, key, 60);
  const [deleted, extended, freed] = [await dueAt("deleted"), await dueAt("extended"), await dueAt("freed")];

  const recorded = Date.now() - 1_000;
  await api.redis.zadd(tenant.keys.expiries, recorded, tenant.keys.item("recorded"));
  expect([await recordAs("recorded", recorded), await recordAs("recorded", recorded)]).toEqual([
    "ok",
    "not_due",
  ]);
  // Whoever reads the entry finds the item gone, whatever Redis's own expiry has got to.
  expect(await api.redis.exists(tenant.keys.item("recorded"))).toBe(0);
  await api.send("DELETE", "/data/deleted", { as });
  await api.send("PUT", "/data/extended", { as, json: { value: 2, ttl: 120 } });
  await api.send("PUT", "/data/freed", { as, json: { value: 2 } });
  expect(await recordAs("deleted", deleted)).toBe("not_due");
  expect(await recordAs("extended", extended)).toBe("not_due");
  expect(await recordAs("freed", freed)).toBe("not_due");
  expect(await expirations(tenant)).toMatchObject([{ target: { id: "recorded" } }]);
});

test("an item that is made anew before anybody looked: the old one's expiry comes first, once", async () => {
  const tenant = await api.tenant();
  await create(tenant, "a", 60);
  const at = await expire(tenant, "a");
  expect((await create(tenant, "a", 60)).status).toBe(201);
  await record();
  const trail = await api.trail(tenant);
  expect(trail.map(({ seq, action }) => [seq, action])).toEqual([
    [1, "create_key"],
    [2, "key_expiration"],
    [3, "create_key"],
  ]);
  expect(trail[1]?.details).toEqual({ expires_at: at });

  // One script, one moment: often enough that a clock read twice would show.
  for (let i = 0; i < 300; i += 1) {
    await api.redis.zadd(tenant.keys.expiries, 1, tenant.keys.item(`k${i}`));
    const { body, headers } = await create(tenant, `k${i}`);
    const id = headers.get("x-request-id");
    const [row] = await api.redis.xrevrange(tenant.keys.outbox, "+", "-", "COUNT", 1);
    expect(JSON.stringify(row)).toContain(String(id));
    expect(JSON.stringify(row)).toContain(`"at","${Date.parse(body.created_at)}"`);
  }
});

test("a full outbox leaves the expiry for later", async () => {
  const tenant = await api.tenant();
  await create(tenant, "a", 60);
  await expire(tenant, "a");
  expect(await record(1)).toBe(0);
  expect(await record()).toBe(1);
  expect(await expirations(tenant)).toHaveLength(1);
});

const addDue = ({ keys }: TestTenant, count: number, at: number) =>
  api.redis.zadd(keys.expiries, ...Array.from({ length: count }, (_, i) => [at, keys.item(`${i}`)]).flat());

test("one call records all that is due, however many there are", async () => {
  const tenant = await api.tenant();
  await addDue(tenant, 1_201, Date.now() - 1000);
  expect(await record()).toBe(1_201);
  expect(await record()).toBe(0);
});

test("what waits for room in a full outbox holds up no expiry of a tenant beside it", async () => {
  const [full, other] = (await tenantsOfOneShard(2)) as [TestTenant, TestTenant];
  for (let i = 0; i < 5; i += 1) await api.send("GET", "/users/me", { as: full.user.token });
  await addDue(full, 1_200, 1_000);
  await addDue(other, 5, 2_000);
  expect(await record(5)).toBe(5);
  expect(await expirations(other)).toHaveLength(5);
  expect(await record()).toBe(1_200);
});

/** Tenants whose expiries stand in one index. */
async function tenantsOfOneShard(count: number): Promise<TestTenant[]> {
  const tenants: TestTenant[] = [];
  for (let tries = 0; tries < 1_000; tries += 1) {
    tenants.push(await api.tenant());
    const shards = Object.values(Object.groupBy(tenants, ({ keys }) => keys.expiries));
    const found = shards.find((shard) => shard?.length === count);
    if (found !== undefined) return found;
  }
  throw new Error("no two tenants of one shard");
}
