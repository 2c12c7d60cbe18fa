/** AUDIT_OVERFLOW=continue: operations go on while the outbox is full, and the gaps in the numbers are the proof. */
import { afterAll, expect, test } from "vitest";
import { recordExpiries } from "../shared/redis/expiry.ts";
import { createOutbox } from "../shared/redis/outbox.ts";
import { createHarness, type Harness, PASSWORD, type TestTenant } from "./support/harness.ts";
import { ownRedis } from "./support/own-redis.ts";
import { expectProblem } from "./support/samples.ts";

/** Entries that an outbox holds. */
const LIMIT = 3;
const store = await ownRedis();
const env = { REDIS_URL: store.url, AUDIT_OUTBOX_MAX_ENTRIES: String(LIMIT) };
const api = await createHarness({ ...env, AUDIT_OVERFLOW: "continue" });
const refusing = await createHarness({ ...env, ...api.secrets });
afterAll(async () => {
  await Promise.all([api.close(), refusing.close()]);
  await store.stop();
});

const unaudited = async ({ send }: Harness = api): Promise<number> =>
  Number(/^latchkey_unaudited_operations_total (\d+)$/m.exec((await send("GET", "/metrics")).text)?.[1]);
const seqs = async (tenant: TestTenant) => (await api.trail(tenant)).map(({ seq }) => seq);
const lastSeq = async ({ keys }: TestTenant) => Number(await api.redis.hget(keys.tenant, "seq"));
/** What Loki having an entry does. */
const ship = async (tenant: TestTenant, ...seqs: number[]) =>
  createOutbox(api.store).remove(
    tenant.id,
    (await api.trail(tenant)).filter(({ seq }) => seqs.includes(seq)),
  );

/** A tenant whose outbox is full, of looks at its user. */
async function fullTenant(): Promise<TestTenant> {
  const tenant = await api.tenant();
  for (let i = 0; i < LIMIT; i += 1) await api.send("GET", "/users/me", { as: tenant.user.token });
  return tenant;
}

test("operations on a full outbox are carried out and counted, and leave nothing but a gap in the numbers", async () => {
  const tenant = await fullTenant();
  const as = tenant.admin.token;
  const counted = await unaudited();
  const backlog = await api.redis.get(tenant.keys.backlog);
  const post = (key: string) => api.send("POST", "/data", { as, json: { key, value: 1 } });
  expect((await post("a")).status).toBe(201);
  expect((await post("a")).status).toBe(409);
  expect((await api.send("GET", "/data/a", { as })).status).toBe(200);
  expect((await api.send("POST", "/api-keys", { as, json: { name: "k" } })).status).toBe(201);
  expect((await api.send("POST", "/trigger-log-offload", { as: tenant.user.token })).status).toBe(403);
  expect((await api.send("PUT", "/data/a?nosuch=1", { as, json: { value: 2 } })).status).toBe(400);
  expect(await seqs(tenant)).toEqual([1, 2, 3]);
  expect(await lastSeq(tenant)).toBe(9);
  expect(await unaudited()).toBe(counted + 6);
  expect(await api.redis.get(tenant.keys.backlog)).toBe(backlog);

  await ship(tenant, 1, 2);
  expect((await api.send("GET", "/data/a", { as })).status).toBe(200);
  expect(await seqs(tenant)).toEqual([3, 10]);
  expect(await unaudited()).toBe(counted + 6);
});

test("logins go on too, right or wrong, and are counted", async () => {
  const tenant = await fullTenant();
  const counted = await unaudited();
  const logIn = (password: string) =>
    api.send("POST", "/token", { json: { username: tenant.user.username, password } });
  expect((await logIn(PASSWORD)).status).toBe(200);
  expectProblem(await logIn("wrong"), 401, "invalid_grant");
  expect(await seqs(tenant)).toEqual([1, 2, 3]);
  expect(await lastSeq(tenant)).toBe(5);
  expect(await unaudited()).toBe(counted + 2);
});

test("a revision is never used twice: what was read before an unaudited change no longer matches", async () => {
  const tenant = await fullTenant();
  const as = tenant.admin.token;
  const etags: (string | null)[] = [];
  etags.push((await api.send("POST", "/data", { as, json: { key: "a", value: 0 } })).headers.get("etag"));
  for (let value = 1; value <= 5; value += 1) {
    const headers = { "if-match": etags.at(-1) ?? "" };
    const changed = await api.send("PUT", "/data/a", { as, json: { value }, headers });
    expect(changed.status).toBe(200);
    etags.push(changed.headers.get("etag"));
    expectProblem(
      await api.send("PUT", "/data/a", { as, json: { value }, headers }),
      412,
      "precondition_failed",
    );
  }
  await api.send("DELETE", "/data/a", { as });
  etags.push((await api.send("POST", "/data", { as, json: { key: "a", value: 0 } })).headers.get("etag"));
  expect(new Set(etags).size).toBe(7);
});

test("API keys that are made meanwhile are listed in their order, each on one page", async () => {
  const tenant = await fullTenant();
  const ids: string[] = [];
  for (let i = 0; i < 5; i += 1) ids.unshift((await api.apiKey(tenant)).id);
  const listed: string[] = [];
  for (let path: string | undefined = "/api-keys?limit=2"; path !== undefined; ) {
    const { body } = await api.send("GET", path, { as: tenant.admin.token });
    listed.push(...body.data.map((one: { key_id: string }) => one.key_id));
    path = body.next_cursor === null ? undefined : `/api-keys?limit=2&cursor=${body.next_cursor}`;
  }
  expect(listed).toEqual(ids);
});

/** A tenant whose outbox is full, and whose item `a` has been over for long. */
async function fullTenantWithExpiry(): Promise<TestTenant> {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  await api.send("POST", "/data", { as, json: { key: "a", value: 1, ttl: 60 } });
  for (let i = 1; i < LIMIT; i += 1) await api.send("GET", "/users/me", { as });
  await api.redis.zadd(tenant.keys.expiries, "XX", 1, tenant.keys.item("a"));
  return tenant;
}

test("an expiry waits for room rather than go unaudited", async () => {
  const tenant = await fullTenantWithExpiry();
  const counted = await unaudited();
  expect(await recordExpiries(api.store, LIMIT)).toBe(0);
  await ship(tenant, 1);
  expect(await recordExpiries(api.store, LIMIT)).toBe(1);
  expect((await api.trail(tenant)).at(-1)).toMatchObject({ seq: 4, action: "key_expiration" });
  expect(await unaudited()).toBe(counted);
});

test("an item made anew over one whose expiry nobody has recorded: both entries are left out and counted", async () => {
  const tenant = await fullTenantWithExpiry();
  await api.redis.del(tenant.keys.item("a"));
  const counted = await unaudited();
  const made = await api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 2 } });
  expect([made.status, made.headers.get("etag")]).toEqual([201, '"5"']);
  expect([await seqs(tenant), await lastSeq(tenant)]).toEqual([[1, 2, 3], 5]);
  expect(await unaudited()).toBe(counted + 2);
});

test("many at once: the numbers that are missing are as many as were counted", async () => {
  const tenant = await api.tenant();
  const counted = await unaudited();
  await Promise.all(
    Array.from({ length: 40 }, () => api.send("GET", "/users/me", { as: tenant.user.token })),
  );
  expect(await seqs(tenant)).toEqual([1, 2, 3]);
  expect((await lastSeq(tenant)) - LIMIT).toBe((await unaudited()) - counted);
});

test("without it operations are refused, no number is taken and nothing is counted", async () => {
  const tenant = await fullTenant();
  const refused = await refusing.send("GET", "/users/me", { as: tenant.user.token });
  expectProblem(refused, 503, "audit_unavailable");
  expect([await lastSeq(tenant), await unaudited(refusing)]).toEqual([LIMIT, 0]);
});
