import { afterAll, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { seqOf } from "../../shared/redis/keys.ts";
import { createHarness } from "../support/harness.ts";
import { until } from "../support/process.ts";

const api = await createHarness();
afterAll(() => api.close());

test("with more in the outbox than one look takes, only what is missing is a gap, and an earlier `to` looks further", async () => {
  const tenant = await api.newTenant();
  const work = () =>
    Promise.all(Array.from({ length: 100 }, () => api.send("GET", "/users/me", { as: tenant.user.token })));
  for (let i = 0; i < 12; i += 1) await work();
  const trail: AuditEntry[] = await api.trail(tenant);
  const verify = async (query = "") =>
    (await api.send("GET", `/audit/integrity${query}`, { as: tenant.admin.token })).body;
  for (const missing of [30, 1_150]) {
    const [[id] = []] = await api.redis.xrange(tenant.keys.outbox, `${missing}`, "+", "COUNT", 1);
    await api.redis.xdel(tenant.keys.outbox, String(id));
  }

  expect(await verify()).toMatchObject({
    last: 1_200,
    found: 1_000,
    gaps: [{ from: 1_150, to: 1_150 }],
    complete: false,
  });
  const to = trail[600]?.timestamp as string;
  const before = trail.filter(({ timestamp }) => timestamp < to).length;
  expect(await verify(`?to=${to}`)).toEqual({
    first: 1,
    last: before,
    found: before - 1,
    gaps: [{ from: 30, to: 30 }],
    duplicates: [],
    complete: true,
  });
  expect(await verify(`?to=${trail[0]?.timestamp}`)).toMatchObject({ found: 0, gaps: [], complete: true });
});

test("a range that holds the first number or the last is whole only with it, and both only where there are such", async () => {
  const tenant = await api.newTenant();
  const operate = () => api.send("GET", "/users/me", { as: tenant.user.token });
  const lastTime = async () => (await api.trail(tenant)).at(-1)?.timestamp as string;
  for (let i = 0; i < 3; i += 1) await operate();
  const third = await lastTime();
  // A range from the fourth entry on is not to hold the third one too.
  await until("the next millisecond", () => Date.now() > Date.parse(third));
  await operate();
  const fourth = await lastTime();
  const lose = async (...seqs: number[]) => {
    for (const [id] of await api.redis.xrange(tenant.keys.outbox, "-", "+"))
      if (seqs.includes(seqOf(id))) await api.redis.xdel(tenant.keys.outbox, id);
  };
  const gapsOf = async (query: string) =>
    (await api.send("GET", `/audit/integrity?${query}`, { as: tenant.admin.token })).body.gaps;

  await lose(1, 4);
  const born = new Date(Number(await api.redis.hget(tenant.keys.tenant, "created_at"))).toISOString();
  const ends = [
    { from: 1, to: 1 },
    { from: 4, to: 4 },
  ];
  expect(await gapsOf(`from=${born}&to=9999-12-31T23:59:59Z`)).toEqual(ends);
  // That was number 5.
  await lose(5);
  expect(await gapsOf(`from=${fourth}`)).toEqual([{ from: 5, to: 5 }]);
  await lose(6);
  await api.redis.hset(tenant.keys.quarantine, "6-1", "{}");
  expect(await gapsOf(`from=${fourth}`)).toEqual([]);
  expect(await gapsOf("from=9999-12-31T23:59:59Z")).toEqual([]);
  expect(await gapsOf(`to=${born}`)).toEqual([]);
});
