/** What becomes of an operation when something happens to Redis: real servers, real replicas, real connections that break. */

import { type AddressInfo, createServer, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { parseRedisConfig } from "../../shared/config.ts";
import { connectRedis } from "../../shared/redis/connect.ts";
import { createConfirm } from "../../shared/redis/replication.ts";
import { createStore, type Store } from "../../shared/redis/store.ts";
import { minReplicasOf } from "../../shared/redis-config.ts";
import { cleanUp, until } from "../support/process.ts";
import { type Server, startReplica, startServer } from "../support/redis-servers.ts";

let master: Server;
let replica: Server;
beforeAll(async () => {
  master = await startServer();
  replica = await startReplica(master);
});
const closing: (() => void)[] = [];
afterAll(async () => {
  for (const close of closing) close();
  for (const { admin } of [master, replica]) admin.disconnect();
  await cleanUp();
});

interface Opened {
  readonly store: Store;
  readonly redis: ReturnType<typeof connectRedis>;
  readonly waits: string[];
}
async function open(env: Record<string, string>): Promise<Opened> {
  const config = parseRedisConfig(env);
  const redis = connectRedis(config);
  redis.on("error", () => undefined);
  const waits: string[] = [];
  const observe = { script: () => undefined, wait: (outcome: string) => void waits.push(outcome) };
  closing.push(() => redis.disconnect());
  await new Promise<void>((resolve) => redis.once("ready", resolve));
  return { store: createStore(redis, { minReplicas: minReplicasOf(config), observe }), redis, waits };
}
const overNodes = () => open({ REDIS_NODES: [replica.address, master.address].join() });

/** Milliseconds within which everybody is answered, whatever happens. */
const ANSWERED = 3_000;
const KEY = "{s1}:tenant";
/** An operation that leaves a mark: one more for each time that it happens. */
const fail = (store: Store) =>
  store.run("limit-login", ["{u1}:failures"], ["failed", "1000000", "60000", "0"]);
const create = (store: Store, id: string) => store.run("create-tenant", [`{s1}:${id}:tenant`], [id]);
const failures = async () => Number(await master.admin.get("{u1}:failures"));
beforeEach(async () => {
  await master.admin.flushall();
});

const sent = (redis: Opened["redis"]): number =>
  "commandQueue" in redis ? redis.commandQueue.length : Number.NaN;
/** The master takes what is sent and answers nobody, as in a partition; then the connection goes. @returns what came of it */
async function whileCutOff<T>(redis: Opened["redis"], send: () => Promise<T>): Promise<T> {
  master.signal("SIGSTOP");
  const outcome = send();
  await until("it to be sent", () => sent(redis) > 0);
  if ("stream" in redis) redis.stream.destroy();
  master.signal("SIGCONT");
  return outcome;
}

test("the first node that takes writes is taken, and a replica is not", async () => {
  const { store } = await overNodes();
  await store.ask((redis) => redis.set(KEY, "1"));
  expect(await master.admin.get(KEY)).toBe("1");
});

test("operations of one turn share one WAIT, and each is answered when a replica has it", async () => {
  const { store, waits } = await overNodes();
  await create(store, "script-is-loaded");
  waits.length = 0;
  await Promise.all(Array.from({ length: 100 }, (_, i) => create(store, `t${i}`)));
  expect(waits).toEqual(["confirmed"]);
  expect((await replica.admin.keys("{s1}:t*:tenant")).length).toBe(100);
});

test("what no replica has is not acknowledged, and says that it may have happened", async () => {
  const { store, waits } = await open({ REDIS_URL: `redis://${master.address}`, REDIS_MIN_REPLICAS: "2" });
  await expect(create(store, "alone")).rejects.toMatchObject({
    code: "not_replicated",
    status: 503,
    headers: { "Retry-After": expect.stringMatching(/^\d+$/) },
    detail: expect.stringContaining("happened"),
  });
  expect(await master.admin.exists("{s1}:alone:tenant")).toBe(1);
  expect(waits).toEqual(["too_few"]);
});

test("a connection that breaks under an operation: its outcome is unknown, and it is not sent again", async () => {
  const { store, redis } = await open({ REDIS_URL: `redis://${master.address}` });
  await fail(store);
  const outcome = await whileCutOff(redis, () => fail(store).catch((error) => error));
  expect(outcome).toMatchObject({ code: "outcome_unknown", status: 503 });
  // The next one finds a new connection by itself.
  await fail(store);
  expect(await failures()).toBeLessThanOrEqual(3);
});

test("what may be repeated is, when its connection breaks", async () => {
  const { store, redis } = await open({ REDIS_URL: `redis://${master.address}` });
  await master.admin.set(KEY, "here");
  expect(await whileCutOff(redis, () => store.ask((commands) => commands.get(KEY)))).toBe("here");
});

test("what a server refuses before it begins is tried again, within its time, and happens once", async () => {
  const { store } = await open({ REDIS_URL: `redis://${master.address}` });
  await master.admin.config("RESETSTAT");
  await master.admin.config("SET", "min-replicas-to-write", "2");
  const answer = fail(store);
  await until("a refusal", async () => /NOREPLICAS:count/.test(await master.admin.info("errorstats")));
  await master.admin.config("SET", "min-replicas-to-write", "0");
  await answer;
  expect(await failures()).toBe(1);
});

test("an address that leads to a replica now: all that was sent is told so, and the process is not warned", async () => {
  const other = await startServer();
  const { redis, store } = await open({ REDIS_URL: `redis://${other.address}` });
  const warnings: Error[] = [];
  const listen = (warning: Error) => void warnings.push(warning);
  process.on("warning", listen);
  // Of nobody, so that it has nothing to load.
  await other.admin.replicaof("127.0.0.1", 1);
  // More than the way to the server holds, so that the first answer comes before the last has been sent.
  const value = "x".repeat(30_000);
  const sent = Array.from({ length: 300 }, () => redis.set(KEY, value).catch((error) => error));
  for (const { message } of await Promise.all(sent)) expect(message).toMatch(/^READONLY/);
  await other.admin.replicaof("NO", "ONE");
  await until("it to be taken again", () => create(store, "again").catch(() => false));
  process.off("warning", listen);
  expect(warnings).toEqual([]);
  other.admin.disconnect();
});

test("a Redis that is full does nothing, and says so at once", async () => {
  const { store } = await open({ REDIS_URL: `redis://${master.address}` });
  await master.admin.config("SET", "maxmemory", "1");
  const refused = create(store, "full").catch((error) => error);
  expect(await refused).toMatchObject({ code: "store_unavailable", cause: expect.stringContaining("OOM") });
  await master.admin.config("SET", "maxmemory", "0");
  expect(await master.admin.exists("{s1}:full:tenant")).toBe(0);
});

test.each([
  ["run scripts", "-evalsha", "store_unavailable", 0],
  ["ask for the replicas", "-wait", "not_replicated", 1],
])("a user who may not %s is told what Redis said", async (_, rule, code, there) => {
  await master.admin.call("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all", rule);
  const { store } = await open({
    REDIS_URL: `redis://limited:secret@${master.address}`,
    REDIS_MIN_REPLICAS: "1",
  });
  const refused = create(store, "limited").catch((error) => error);
  expect(await refused).toMatchObject({ code, cause: expect.stringContaining("NOPERM") });
  expect(await master.admin.exists("{s1}:limited:tenant")).toBe(there);
});

test("nobody is there: answered in time, and surely nothing happened", async () => {
  const config = parseRedisConfig({ REDIS_NODES: "127.0.0.1:1" });
  const redis = connectRedis(config);
  redis.on("error", () => undefined);
  closing.push(() => redis.disconnect());
  const store = createStore(redis, { minReplicas: 1 });
  const started = performance.now();
  await expect(create(store, "never")).rejects.toMatchObject({
    code: "store_unavailable",
    detail: "Nothing was done.",
  });
  expect(performance.now() - started).toBeLessThan(ANSWERED);
});

test("what was not answered in time does not happen long after, although every WAIT before it takes its second", async () => {
  const { store, redis } = await open({ REDIS_URL: `redis://${master.address}`, REDIS_MIN_REPLICAS: "2" });
  await create((await overNodes()).store, "script-is-loaded");
  const outcomes: Promise<unknown>[] = [];
  for (let i = 0; i < 20; i += 1) {
    outcomes.push(create(store, `t${i}`).catch((error) => error.code));
    // Some turns of the event loop each, so that each has a WAIT of its own, and no time in which a connection could end.
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(new Set(await Promise.all(outcomes))).toEqual(new Set(["not_replicated", "outcome_unknown"]));
  await until("nothing of it to be under way", () => sent(redis) === 0);
  expect((await master.admin.keys("{s1}:t*:tenant")).length).toBeLessThan(5);
});

test("an outage keeps nothing of the many operations that it refuses", async () => {
  const redis = connectRedis(parseRedisConfig({ REDIS_NODES: "127.0.0.1:1" }));
  redis.on("error", () => undefined);
  closing.push(() => redis.disconnect());
  const store = createStore(redis, { minReplicas: 1 });
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const refuseMany = async () => {
    await Promise.allSettled(Array.from({ length: 10_000 }, () => create(store, "never")));
    collect();
    return process.memoryUsage().heapUsed;
  };
  const first = await refuseMany();
  expect((await refuseMany()) - first).toBeLessThan(3_000_000);
});

test("at an address that takes connections and says nothing another one is tried, by TLS or without", async () => {
  await Promise.all(
    ["redis", "rediss"].map(async (scheme) => {
      const silent = createServer();
      const connections: Socket[] = [];
      const twice = new Promise<void>((resolve) => {
        silent.on("connection", (socket) => {
          if (connections.push(socket.on("error", () => undefined)) === 2) resolve();
        });
      });
      await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
      const { port } = silent.address() as AddressInfo;
      const redis = connectRedis(parseRedisConfig({ REDIS_URL: `${scheme}://127.0.0.1:${port}` }));
      redis.on("error", () => undefined);
      await twice;
      redis.disconnect();
      for (const socket of connections) socket.destroy();
      silent.close();
    }),
  );
});

test("a server that hangs is given up, and the next operation is answered by whoever takes over", async () => {
  const other = await startServer();
  const follower = await startReplica(other);
  const { store } = await open({
    REDIS_NODES: [other.address, follower.address].join(),
    REDIS_MIN_REPLICAS: "0",
  });
  other.signal("SIGSTOP");
  const started = performance.now();
  await expect(create(store, "hangs")).rejects.toMatchObject({ code: "outcome_unknown" });
  expect(performance.now() - started).toBeLessThan(ANSWERED);
  await follower.admin.replicaof("NO", "ONE");
  await until("a new master", () => create(store, "goes-on").catch(() => false));
  expect(await follower.admin.exists("{s1}:goes-on:tenant")).toBe(1);
  other.signal("SIGCONT");
  for (const { admin } of [other, follower]) admin.disconnect();
});

test.each<[string, Record<string, string>, boolean]>([
  ["became a replica", {}, true],
  ["became a replica and has lost its own master", { "replica-serve-stale-data": "no" }, true],
  ["has lost its replicas", { "min-replicas-to-write": "1" }, false],
])(
  "a master that %s is left for the new one, and what it refused is done there",
  async (_, settings, follows) => {
    const [one, two] = [await startServer(), await startServer()];
    const { store } = await open({ REDIS_NODES: [one.address, two.address].join(), REDIS_MIN_REPLICAS: "0" });
    await create(store, "before");
    for (const [name, value] of Object.entries(settings)) await one.admin.config("SET", name, value);
    if (follows) await one.admin.replicaof("127.0.0.1", 1);
    await create(store, "after");
    expect(await two.admin.exists("{s1}:after:tenant")).toBe(1);
    for (const { admin } of [one, two]) admin.disconnect();
  },
);

test("scripts that a new master does not know are sent again whole", async () => {
  const { store } = await overNodes();
  await master.admin.script("FLUSH");
  await create(store, "again");
  expect(await replica.admin.exists("{s1}:again:tenant")).toBe(1);
});

test("a connection that was made anew cannot confirm what the lost one wrote", async () => {
  const confirm = createConfirm(1, () => undefined);
  const lost = { stream: {}, wait: async () => 1 };
  const confirmed = confirm(lost as unknown as Redis);
  lost.stream = {};
  await expect(confirmed).rejects.toThrow("the connection is another one");
});

test("what was read from a master that has been replaced is not confirmed by the new one", async () => {
  const [one, two] = [await startServer(), await startServer()];
  const follower = await startReplica(one);
  const { store } = await open({ REDIS_NODES: [one.address, two.address].join() });
  const next = await startReplica(two);
  const confirm = await store.watch(KEY);
  await store.ask((commands) => commands.set(KEY, "only here"));
  await confirm();
  await follower.admin.replicaof("NO", "ONE");
  expect(await store.ask((commands) => commands.get(KEY))).toBe("only here");
  await one.admin.replicaof(two.host, two.port);
  await expect(confirm()).rejects.toMatchObject({ code: "not_replicated" });
  const again = await store.watch(KEY);
  expect(await store.ask((commands) => commands.get(KEY))).toBeNull();
  await again();
  for (const { admin } of [one, two, follower, next]) admin.disconnect();
});

test("the variables for user and password count before those of the URL, whatever characters they are made of", async () => {
  const password = "p@ss:w/o?r#d%20";
  const server = await startServer(
    () => ["--user", "somebody", "on", `>${password}`, "~*", "&*", "+@all", "--user", "default", "off"],
    { username: "somebody", password },
  );
  const at = (credentials: string) => `redis://${credentials}${server.address}`;
  for (const env of [
    { REDIS_URL: at("nobody:wrong@"), REDIS_USERNAME: "somebody", REDIS_PASSWORD: password },
    { REDIS_URL: at("somebody@"), REDIS_PASSWORD: password },
    { REDIS_URL: at(`somebody:${encodeURIComponent(password)}@`) },
  ]) {
    const { store } = await open(env);
    expect(await store.ask((commands) => commands.get(KEY))).toBeNull();
  }
  server.admin.disconnect();
});
