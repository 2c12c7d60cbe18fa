/** What is done to a cluster under load. Each ends when the cluster is healthy again. */
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../support/process.ts";
import type { Cluster, Node } from "./cluster.ts";
import type { Pod } from "./world.ts";

/** Milliseconds. */
const PARTED = 15_000;
/** Until everybody has noticed that there is no Sentinel, and long enough to see what is answered without a master. */
const WITHOUT_SENTINELS = { before: 1_000, after: 6_000 };
/**
 * What one replica misses before everything ends; then the time without writes after which they are on the disk
 * (`appendfsync everysec` postpones a write by 2 s at most); and how much earlier that one comes back than the others.
 */
const BEHIND = 2_000;
const ON_DISK = 4_000;
const AHEAD = 8_000;
/** Until a pod that was deleted is there again. Sentinels try its old address meanwhile, and go on with that. */
const REPLACED = 1_000;

export interface Stage {
  readonly cluster: Cluster;
  /** Who is cut off together with the master in a partition. */
  readonly islander: Pod;
  /** Milliseconds for which a master hangs at least. */
  readonly stopped: number;
  /** The fault happens now. */
  begin(): void;
  /** Wait until changes are acknowledged again by everybody who can reach a majority. */
  flowing(): Promise<void>;
  /** Let nobody write for so long. */
  quiet?(milliseconds: number): Promise<void>;
  /** The partition is about to heal. */
  beforeHealing?(): void;
}

export type Fault = (stage: Stage) => Promise<unknown>;

/** Another node than this one is the only one that says that it is the master, among those that answer. */
const replaced = (cluster: Cluster, old: Node) =>
  until(
    "a new master",
    async () => {
      const master = await cluster.master();
      return master !== undefined && master !== old;
    },
    30_000,
  );

/** Start a node again that was the master: it may follow, and must not be a master for one moment. */
async function startAgain(cluster: Cluster, node: Node): Promise<void> {
  node.start();
  const life = { healthy: false };
  const healthy = cluster.healthy().finally(() => {
    life.healthy = true;
  });
  while (!life.healthy) {
    const [role] = await node.admin.role().catch(() => []);
    if (role === "master") throw new Error(`${node.pod.name} came back as a second master`);
    await sleep(20);
  }
  await healthy;
}

/** The machine of the master is lost, and comes back when it has been replaced. */
const kill: Fault = async ({ cluster, begin, flowing }) => {
  const master = await cluster.healthy();
  begin();
  master.pod.signal("SIGKILL");
  await replaced(cluster, master);
  await flowing();
  await startAgain(cluster, master);
};

/** The master's process dies, and its container is started again at once, long before anybody counts it as down. */
const restart: Fault = async ({ cluster, begin, flowing }) => {
  const master = await cluster.healthy();
  begin();
  master.pod.signal("SIGKILL");
  await master.pod.ended();
  await startAgain(cluster, master);
  await flowing();
};

/** As `restart`, and its volume is empty: what it offers nobody may follow. */
const emptied: Fault = async ({ cluster, begin, flowing }) => {
  const master = await cluster.healthy();
  begin();
  master.pod.signal("SIGKILL");
  await master.pod.ended();
  master.loseVolume();
  await startAgain(cluster, master);
  await flowing();
};

/** The master hangs, and wakes up when it has been replaced, still thinking that it is the master. */
const stop: Fault = async ({ cluster, stopped, begin, flowing }) => {
  const master = await cluster.healthy();
  begin();
  master.pod.signal("SIGSTOP");
  const slept = sleep(stopped);
  await replaced(cluster, master);
  await flowing();
  await slept;
  master.pod.signal("SIGCONT");
  await cluster.healthy();
  await flowing();
};

/** The master and one client are cut off from everybody else. */
const partition: Fault = async ({ cluster, islander, begin, flowing, beforeHealing }) => {
  const master = await cluster.healthy();
  begin();
  for (const pod of [master.pod, islander]) pod.cutOff();
  await sleep(PARTED);
  beforeHealing?.();
  for (const pod of [master.pod, islander]) pod.reconnect();
  await cluster.healthy();
  await flowing();
};

/**
 * A new version is rolled out: every pod stops on purpose and comes back with another address. The next one goes when this
 * one is ready, as a StatefulSet does it at worst, whether the Sentinels have found it by then or not.
 */
const rolling: Fault = async ({ cluster, begin, flowing }) => {
  await cluster.healthy();
  begin();
  for (const node of [...cluster.redis.toReversed(), ...cluster.sentinels.toReversed()]) {
    if (cluster.sentinels.includes(node)) await cluster.healthy();
    await node.stop();
    await sleep(REPLACED);
    node.pod.appear();
    node.start();
    await until("the pod to be ready", () => node.isReady(), 30_000);
  }
  await cluster.healthy();
  await flowing();
};

/** Nobody is left to replace the master when it dies; its container is started again, and waits for them. */
const sentinels: Fault = async ({ cluster, begin, flowing }) => {
  const master = await cluster.healthy();
  begin();
  for (const { pod } of cluster.sentinels) pod.signal("SIGKILL");
  await sleep(WITHOUT_SENTINELS.before);
  master.pod.signal("SIGKILL");
  await master.pod.ended();
  master.start();
  await sleep(WITHOUT_SENTINELS.after);
  for (const sentinel of cluster.sentinels) sentinel.start();
  await cluster.healthy();
  await flowing();
};

/** Everything ends at once, one replica a little earlier; that one is back first, and must not take the place of the others. */
const blackout: Fault = async ({ cluster, begin, flowing, quiet }) => {
  const master = await cluster.healthy();
  const [first, second] = cluster.redis.filter((node) => node !== master) as [Node, Node];
  begin();
  first.pod.signal("SIGKILL");
  await sleep(BEHIND);
  await quiet?.(ON_DISK);
  const rest = [master, second, ...cluster.sentinels];
  for (const { pod } of rest) pod.signal("SIGKILL");
  await Promise.all(rest.map(({ pod }) => pod.ended()));
  for (const node of [first, ...cluster.sentinels]) node.start();
  await sleep(AHEAD);
  for (const node of [second, master]) node.start();
  await cluster.healthy();
  await flowing();
};

export const faults = {
  kill,
  restart,
  emptied,
  stop,
  partition,
  rolling,
  sentinels,
  blackout,
} satisfies Record<string, Fault>;
