/** What a request costs in Redis, counted by Redis itself. */
import { Redis } from "ioredis";
import { afterAll, expect, test } from "vitest";
import { recordExpiries } from "../shared/redis/expiry.ts";
import { type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness, PASSWORD } from "./support/harness.ts";
import { ownRedis } from "./support/own-redis.ts";
import { bodyOf, samples } from "./support/samples.ts";

const store = await ownRedis();
const api = await createHarness({ REDIS_URL: store.url });
const monitor = await new Redis({ path: store.socket }).monitor();
const seen: string[][] = [];
/** Of every script call its keys, and the keys of the commands that it ran. */
const scriptCalls: { readonly script: string; readonly given: string[]; readonly touched: string[] }[] = [];
monitor.on("monitor", (_time: string, command: string[], source: string) => {
  const [name = "", script = "", count = "", ...rest] = command;
  if (source === "lua") {
    // The key is the first argument of every command that the scripts use; TIME has none.
    if (name !== "TIME") scriptCalls.at(-1)?.touched.push(script);
    return;
  }
  if (/^eval(sha)?$/i.test(name))
    scriptCalls.push({ script, given: rest.slice(0, Number(count)), touched: [] });
  seen.push(command);
});

afterAll(async () => {
  monitor.disconnect();
  await api.close();
  await store.stop();
});

/** Names of the commands that clients sent while `work` ran. */
async function commandsDuring(work: () => Promise<unknown>): Promise<string[]> {
  const [begin, end] = [crypto.randomUUID(), crypto.randomUUID()];
  const position = (marker: string) => seen.findIndex((command) => command[1] === marker);
  await api.redis.echo(begin);
  await work();
  await api.redis.echo(end);
  await expect.poll(() => position(end)).toBeGreaterThan(-1);
  return seen.slice(position(begin) + 1, position(end)).map(([name]) => String(name).toLowerCase());
}

const closed = (routes as readonly Route[]).filter((route) => route.credential !== "none");

test.each(closed)("$id: one round trip, whether it is carried out or refused", async (route) => {
  const tenant = await api.tenant();
  const sampleOf = samples[route.id as RouteId];
  const send = async (as: string, spoil: object = {}) => {
    const sample = await sampleOf(api, tenant);
    return commandsDuring(() => api.send(route.method, sample.path, { as, ...bodyOf(sample), ...spoil }));
  };
  await send(tenant.admin.token);
  await send(tenant.admin.token, { headers: { "content-type": "text/plain" } });
  expect(await send(tenant.admin.token)).toEqual(["evalsha"]);
  expect(await send((await api.apiKey(tenant)).text)).toEqual(["evalsha"]);
  const sample = await sampleOf(api, tenant);
  const refused = () => api.send(route.method, `${sample.path}?nosuch=1`, { as: tenant.admin.token });
  await refused();
  expect(await commandsDuring(refused)).toEqual(["evalsha"]);
});

test("POST /token: five commands in four round trips", async () => {
  const { user } = await api.tenant();
  const json = { username: user.username, password: PASSWORD };
  await api.send("POST", "/token", { json });
  expect(await commandsDuring(() => api.send("POST", "/token", { json }))).toEqual([
    "get",
    "evalsha",
    "hmget",
    "evalsha",
    "evalsha",
  ]);
});

test("what the samples do not do: logins, dead keys, expiries (for the test below)", async () => {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  const key = await api.apiKey(tenant);
  for (let round = 0; round < 2; round += 1) {
    for (const password of [PASSWORD, "wrong"]) {
      const json = { username: tenant.user.username, password };
      await api.send("POST", "/token", { json, from: "192.0.2.1" });
    }
    await api.send("DELETE", `/api-keys/${key.id}`, { as });
    await api.send("GET", "/data/a", { as: key.text });
    for (const name of ["seen", "made-anew"]) {
      await api.send("POST", "/data", { as, json: { key: name, value: 1, ttl: 60 } });
      await api.redis.zadd(tenant.keys.expiries, "XX", 1, tenant.keys.item(name));
      await api.redis.del(tenant.keys.item(name));
    }
    await api.send("POST", "/data", { as, json: { key: "made-anew", value: 1 } });
    await api.send("DELETE", "/data/made-anew", { as });
    await recordExpiries(api.store, 1_000_000);
  }
});

test("scripts touch no key but those they are given, and all keys of a call share one hash slot", () => {
  // A call of a script that Redis did not know yet touched nothing; the next one sent its text.
  const carriedOut = scriptCalls.filter(({ touched }) => touched.length > 0);
  expect(new Set(carriedOut.map(({ script }) => script)).size).toBeGreaterThan(closed.length + 3);
  for (const { given, touched } of carriedOut) {
    expect(touched.filter((key) => !given.includes(key))).toEqual([]);
    expect(new Set(given.map((key) => /^\{(\w+)\}/.exec(key)?.[1])).size).toBe(1);
  }
});

test("garbage costs Redis nothing", async () => {
  const headers = { "x-api-key": `lk_test_${"0".repeat(54)}_000000` };
  expect(await commandsDuring(() => api.send("GET", "/data/a", { headers }))).toEqual([]);
  expect(await commandsDuring(() => api.send("GET", "/data/a", { as: "no.such.token" }))).toEqual([]);
});

test("a script that Redis has forgotten is sent once more, and the request does not notice", async () => {
  const tenant = await api.tenant();
  const read = () => api.send("GET", "/users/me", { as: tenant.admin.token });
  await read();
  await api.redis.script("FLUSH");
  let status: number | undefined;
  const commands = await commandsDuring(async () => {
    ({ status } = await read());
  });
  expect([status, commands]).toEqual([200, ["evalsha", "eval"]]);
  expect(await commandsDuring(read)).toEqual(["evalsha"]);
});
