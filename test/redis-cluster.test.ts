/** The component redis-cluster: its scripts run by real nodes, and the functions' own client as the ACL lets it in. */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseRedisConfig } from "../shared/config.ts";
import { freePort } from "../shared/node/dev/free-port.ts";
import { onPath } from "../shared/node/dev/on-path.ts";
import { connectRedis } from "../shared/redis/connect.ts";
import { SHARDS } from "../shared/redis/keys.ts";
import { createStore, type Store } from "../shared/redis/store.ts";
import { cleanUp, type Program, repository, run, temporaryFolder, until } from "./support/process.ts";

const HOST = "127.0.0.1";
const passwords = {
  LATCHKEY: "functions",
  REPLICA: "replica",
  SENTINEL: "none",
  HEALTH: "health",
  ADMIN: "admin",
};

interface Node {
  readonly admin: Redis;
  isMaster(): Promise<boolean>;
  start(): void;
  /** As its container is killed. */
  kill(): Promise<void>;
  /** As the kubelet stops it. */
  stop(): Promise<void>;
  loseVolume(): void;
}
let nodes: Node[];
let redis: ReturnType<typeof connectRedis>;
let store: Store;

/** As the ConfigMap redis-files has them. */
function scripts(): string {
  const files = temporaryFolder();
  for (const folder of ["k8s/redis", "k8s/components/redis-cluster"])
    cpSync(join(repository, folder), files, { recursive: true });
  return files;
}

function createNode(port: number, files: string, all: string): Node {
  const folder = temporaryFolder();
  const [data, memory] = [join(folder, "data"), join(folder, "run")];
  for (const one of [data, memory]) mkdirSync(one);
  const env = {
    ...Object.fromEntries(
      Object.entries(passwords).map(([user, password]) => [`${user}_PASSWORD`, password]),
    ),
    ...{ SELF: `${HOST}:${port}`, POD_IP: HOST, REDIS_NODES: all },
    ...{ RUN: memory, REDIS_DATA: data, REDIS_MEMORY_LIMIT: "268435456" },
  };
  const script = (name: string) => run("sh", [join(files, name)], { cwd: folder, env });
  const admin = new Redis(port, HOST, {
    username: "admin",
    password: passwords.ADMIN,
    retryStrategy: () => 50,
  });
  admin.on("error", () => undefined);
  let program: Program;
  return {
    admin,
    isMaster: async () => (await admin.role())[0] === "master",
    start() {
      program = script("start-cluster.sh");
    },
    async kill() {
      program.kill("SIGKILL");
      await program.ended();
    },
    async stop() {
      expect(await script("stop-cluster.sh").ended()).toMatchObject({ code: 0 });
      program.kill("SIGTERM");
      await program.ended();
    },
    loseVolume() {
      rmSync(data, { recursive: true });
      mkdirSync(data);
    },
  };
}

/** Three masters with all slots between them, each with a replica that follows it. */
const isWhole = async (): Promise<boolean> => {
  const infos = await Promise.all(nodes.map(({ admin }) => admin.info("replication").catch(() => "")));
  const masters = infos.filter((info) => /role:master.*connected_slaves:1\r\n.*state=online/s.test(info));
  const followers = infos.filter((info) => info.includes("master_link_status:up"));
  const states = await Promise.all(nodes.map(({ admin }) => admin.cluster("INFO").catch(() => "")));
  const known = states.every((info) => /cluster_state:ok\r\ncluster_slots_assigned:16384/.test(String(info)));
  return known && masters.length === 3 && followers.length === 3;
};
const whole = () => until("the cluster to be whole", isWhole);

const key = (shard: number, id: string) => `{s${shard}}:${id}:tenant`;
const shards = Array.from({ length: SHARDS }, (_, shard) => shard);
/** Acknowledged by the master of every shard, and by its replica. */
const write = (id: string) =>
  Promise.all(
    shards.map((shard) =>
      until("a write", () =>
        store.run("create-tenant", [key(shard, id)], [id]).then(
          () => true,
          () => false,
        ),
      ),
    ),
  );
const isThere = (id: string) =>
  Promise.all(shards.map((shard) => store.ask((commands) => commands.exists(key(shard, id)))));

/** What the scripts need of the image, and a Mac may not have. */
const lacking = ["getent", "timeout"].filter((tool) => !onPath(tool));

describe("the component redis-cluster", () => {
  if (lacking.length > 0) {
    test.skip(`not here: ${lacking.join(" and ")} cannot be found`, () => undefined);
    return;
  }
  beforeAll(async () => {
    const files = scripts();
    const ports = await Promise.all(Array.from({ length: 6 }, freePort));
    const all = ports.map((port) => `${HOST}:${port}`).join();
    nodes = ports.map((port) => createNode(port, files, all));
    for (const node of nodes) node.start();
    await whole();
    redis = connectRedis(
      parseRedisConfig({
        REDIS_CLUSTER_NODES: all,
        REDIS_USERNAME: "latchkey",
        REDIS_PASSWORD: passwords.LATCHKEY,
      }),
    );
    redis.on("error", () => undefined);
    store = createStore(redis, { minReplicas: 1 });
  });
  afterAll(async () => {
    redis?.disconnect();
    for (const { admin } of nodes) admin.disconnect();
    await cleanUp();
  });

  test("six empty nodes become a cluster by themselves: three masters, and the replica of each", async () => {
    expect(await Promise.all(nodes.map((node) => node.isMaster()))).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    await write("first");
    expect(await isThere("first")).toEqual(shards.map(() => 1));
  });

  test("a master that is killed and restarts at once leaves its slots to its replica, which has all that was acknowledged", async () => {
    const [one, , , replica] = nodes as [Node, Node, Node, Node];
    await one.kill();
    one.start();
    await until("the replica to take over", () => replica.isMaster());
    await whole();
    expect(await one.isMaster()).toBe(false);
    expect(await isThere("first")).toEqual(shards.map(() => 1));
    await write("second");
  });

  test("a node whose volume was lost follows who took over, and offers its emptiness to nobody", async () => {
    const [, two, , , replica] = nodes as [Node, Node, Node, Node, Node];
    await two.kill();
    two.loseVolume();
    two.start();
    await whole();
    expect([await two.isMaster(), await replica.isMaster()]).toEqual([false, true]);
    expect(await isThere("second")).toEqual(shards.map(() => 1));
    await write("third");
  });

  test("a master that is stopped hands over first", async () => {
    const [, , three, , , replica] = nodes as [Node, Node, Node, Node, Node, Node];
    await three.stop();
    expect(await replica.isMaster()).toBe(true);
    three.start();
    await whole();
    expect(await isThere("third")).toEqual(shards.map(() => 1));
  });

  test("a volume with the data of a single master is left as it is", async () => {
    const data = temporaryFolder();
    mkdirSync(join(data, "appendonlydir"));
    writeFileSync(join(data, "appendonlydir/appendonly.aof.manifest"), "");
    const env = { SELF: "redis-0:6379", REDIS_NODES: "redis-0:6379", REDIS_DATA: data };
    const { code, stderr } = await run("sh", [join(scripts(), "start-cluster.sh")], { env }).ended();
    expect([code, stderr]).toEqual([1, expect.stringContaining("a Redis that was no cluster")]);
  });
});
