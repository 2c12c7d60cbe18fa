/** A Redis Cluster of two masters and a replica each: the same scripts, each on the master of its shard. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseRedisConfig } from "../../shared/config.ts";
import { connectRedis } from "../../shared/redis/connect.ts";
import { SHARDS } from "../../shared/redis/keys.ts";
import { createStore, type Store } from "../../shared/redis/store.ts";
import { cleanUp, until } from "../support/process.ts";
import { type Server, startServer } from "../support/redis-servers.ts";

const SLOTS = 16_384;

let servers: Server[];
let redis: ReturnType<typeof connectRedis>;
let store: Store;
const waits: string[] = [];
beforeAll(async () => {
  const settings =
    "--cluster-enabled yes --cluster-node-timeout 2000 --cluster-require-full-coverage no".split(" ");
  servers = await Promise.all(Array.from({ length: 4 }, () => startServer(() => settings)));
  const [one, two, replicaOfOne, replicaOfTwo] = servers as [Server, Server, Server, Server];
  await one.admin.cluster("ADDSLOTSRANGE", 0, SLOTS / 2 - 1);
  await two.admin.cluster("ADDSLOTSRANGE", SLOTS / 2, SLOTS - 1);
  for (const { host, port } of servers.slice(1)) await one.admin.cluster("MEET", host, port);
  for (const [replica, master] of [
    [replicaOfOne, one],
    [replicaOfTwo, two],
  ] as const) {
    const id = String(await master.admin.cluster("MYID"));
    await until("the nodes to meet", () => replica.admin.cluster("REPLICATE", id).catch(() => false));
    // What it confirms it has loaded.
    await until("the replica to follow", async () => {
      await master.admin.publish("nobody", "");
      return (await master.admin.wait(1, 500)) === 1;
    });
  }
  for (const { admin } of servers)
    await until("the cluster to be whole", async () =>
      /cluster_state:ok/.test(String(await admin.cluster("INFO"))),
    );
  const config = parseRedisConfig({ REDIS_CLUSTER_NODES: one.address });
  redis = connectRedis(config);
  redis.on("error", () => undefined);
  const observe = { script: () => undefined, wait: (outcome: string) => void waits.push(outcome) };
  store = createStore(redis, { minReplicas: 1, observe });
});
afterAll(async () => {
  redis.disconnect();
  for (const { admin } of servers) admin.disconnect();
  await cleanUp();
});

const keyIn = (shard: number, id: string) => `{s${shard}}:${id}:tenant`;
const create = (shard: number, id: string) => store.run("create-tenant", [keyIn(shard, id)], [id]);
/** How it ends for certain: a node that writes its own state to a slow disk answers nobody for a while. */
const ending = (attempt: () => Promise<unknown>) =>
  until("a certain answer", () =>
    attempt().then(
      () => "done",
      ({ code }) => code !== "outcome_unknown" && code !== "not_replicated" && String(code),
    ),
  );

test("an operation of any shard is confirmed by the replica of the master that carried it out", async () => {
  const shards = Array.from({ length: SHARDS }, (_, shard) => shard);
  const endings = await Promise.all(shards.map((shard) => ending(() => create(shard, "a"))));
  expect(new Set(endings)).toEqual(new Set(["done"]));
  expect(waits).toContain("confirmed");
  const copies = await Promise.all(servers.map(({ admin }) => admin.keys("*:a:tenant")));
  expect(copies.map((keys) => keys.length).reduce((sum, count) => sum + count)).toBe(2 * SHARDS);
  for (const keys of copies) expect(keys.length).toBeGreaterThan(0);
  const found = await store.ask((commands) =>
    Promise.all(shards.map((shard) => commands.exists(keyIn(shard, "a")))),
  );
  expect(found.every((one) => one === 1)).toBe(true);
  const confirm = await store.watch(keyIn(0, "a"));
  await confirm();
});

test("while a slot moves, what is whole on one side is done and confirmed there, and what is split waits and is refused", async () => {
  const [one, two, , replicaOfTwo] = servers as [Server, Server, Server, Server];
  const [oldId, newId] = [String(await one.admin.cluster("MYID")), String(await two.admin.cluster("MYID"))];
  const [first = ""] = await one.admin.keys("*:a:tenant");
  const shard = Number(/s(\d+)/.exec(first)?.[1]);
  const slot = Number(await one.admin.cluster("KEYSLOT", first));
  const [here, there] = [`{s${shard}}:here`, `{s${shard}}:there`];
  await one.admin.mset(here, "", there, "");
  await two.admin.cluster("SETSLOT", slot, "IMPORTING", oldId);
  await one.admin.cluster("SETSLOT", slot, "MIGRATING", newId);

  // Its key is still with the old master, and only that one can know it.
  expect(await ending(async () => expect(await create(shard, "a")).toEqual(["already_exists", ""]))).toBe(
    "done",
  );
  // The old master has no such key, so the new one is asked, and its replica. It is sent the script, too.
  await two.admin.script("FLUSH");
  expect(await ending(() => create(shard, "meanwhile"))).toBe("done");
  expect((await replicaOfTwo.admin.keys("*:meanwhile:tenant")).length).toBe(1);

  await one.admin.migrate(two.host, two.port, there, 0, 5_000);
  const removeEntries = () => store.run("remove-entries", [here, there, here], ["nobody", "1-1"]);
  expect(await ending(removeEntries)).toBe("store_unavailable");

  const keys = (await one.admin.cluster("GETKEYSINSLOT", slot, 100)) as string[];
  await one.admin.migrate(two.host, two.port, "", 0, 5_000, "KEYS", ...keys);
  for (const { admin } of [two, one]) await admin.cluster("SETSLOT", slot, "NODE", newId);
  expect(await ending(() => create(shard, "moved"))).toBe("done");
  await replicaOfTwo.admin.readonly();
  const copies = ["a", "moved", "meanwhile"].map((id) => replicaOfTwo.admin.exists(keyIn(shard, id)));
  expect(await Promise.all(copies)).toEqual([1, 1, 1]);
});

test.each([
  ["with a wrong password", { REDIS_USERNAME: "nobody", REDIS_PASSWORD: "wrong" }, /WRONGPASS/],
  // Too long to be one, which takes no server of names to know.
  ["by a name that is nobody's", { REDIS_CLUSTER_NODES: `${"n".repeat(64)}:6379` }, /n{64}/],
])("whoever comes %s is told why", async (_, changes, reason) => {
  const [one] = servers as [Server];
  const stranger = connectRedis(parseRedisConfig({ REDIS_CLUSTER_NODES: one.address, ...changes }));
  const { message } = await new Promise<Error>((resolve) => stranger.once("error", resolve));
  stranger.disconnect();
  expect(message).toMatch(reason);
});

test("when a master dies and its replica takes over, what it had confirmed is there, and operations go on", async () => {
  const [one, , replica] = servers as [Server, Server, Server];
  const mine = (await one.admin.keys("*:a:tenant")).map((key) => Number(/s(\d+)/.exec(key)?.[1]));
  const [shard = 0] = mine;
  one.signal("SIGKILL");
  await replica.admin.cluster("FAILOVER", "TAKEOVER");
  await until("the new master", () =>
    create(shard, "b").then(
      () => true,
      // It has nobody yet that could confirm; others are told that nothing, or nobody knows what, happened.
      ({ code }) => code === "not_replicated",
    ),
  );
  expect(await replica.admin.exists(keyIn(shard, "a"), keyIn(shard, "b"))).toBe(2);
});
