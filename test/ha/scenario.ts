/** One fault, several times over, in a world of its own: `node scenario.ts <name> <rounds> <folder> functions|plain`. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { repository, until } from "../support/process.ts";
import { clientEnvironment, createCluster } from "./cluster.ts";
import { type Fault, faults, type Stage } from "./faults.ts";
import type { Round } from "./meter.ts";
import type { Outcome, PlainOutcome } from "./outcome.ts";
import { createScene, type FunctionsPod, type Scene, startWriters, verify, type Writers } from "./scene.ts";
import { createWorld } from "./world.ts";

/** Milliseconds between faults, so that the next one meets writers in full swing. */
const BETWEEN = 1_000;
/** Milliseconds after the beginning of a partition, from when on the minority must not acknowledge anything: min-replicas-max-lag. */
const MAX_LAG = 3_000;
/** Milliseconds for which a master hangs at least; in every test run no longer than it takes to replace it. */
const STOPPED = { brief: 0, long: 20_000 };
/** Milliseconds for ioredis's own client to find the new master. */
const PLAIN_RECOVERY = 3_000;

const [name = "kill", rounds = "1", folder = "", kind = "functions"] = process.argv.slice(2);
/** What happens in one round. */
function steps(): Fault[] {
  if (name === "brief") return [faults.kill, faults.stop];
  // That a Sentinel names the wrong master shows when the right one has been replaced.
  if (name === "stale") return [faults.kill];
  return [name === "tls" ? faults.restart : faults[name as keyof typeof faults]];
}

/** Wait until each of these processes acknowledges changes, one after the other and not one by chance. */
const flowing = (meter: Writers["meter"], functions: readonly FunctionsPod[]): Promise<unknown> =>
  until(
    "changes to be acknowledged",
    () => functions.every(({ origin }) => meter.after(origin, 100) > 0 && meter.lately(origin, 500) >= 5),
    30_000,
  );

/** The functions ask a Sentinel that still names the master of old. */
async function misled(scene: Scene): Promise<void> {
  const { world, cluster, functions, start, ready } = scene;
  const liar = world.addPod("liar", "liar");
  liar.appear();
  const { pod } = await cluster.healthy();
  liar.start(process.execPath, [join(repository, "test/ha/stale-sentinel.ts"), pod.host, "6379"], {});
  const env = { REDIS_SENTINELS: `liar:26379,${clientEnvironment.REDIS_SENTINELS}` };
  for (const one of functions) {
    one.pod.signal("SIGTERM");
    await one.pod.ended();
    start(one.pod, env);
    await ready(one);
  }
}

async function withFunctions(): Promise<Outcome> {
  const scene = await createScene(folder, name === "tls");
  const { cluster, functions } = scene;
  const [mainlander, islander] = functions as [FunctionsPod, FunctionsPod];
  if (name === "stale") await misled(scene);
  const writers = await startWriters(scene);
  const { meter } = writers;
  const done: Round[] = [];
  let acknowledgedOnIsland = 0;
  const stage: Stage = {
    cluster,
    islander: islander.pod,
    stopped: name === "brief" ? STOPPED.brief : STOPPED.long,
    begin: meter.begin,
    flowing: async () => void (await flowing(meter, functions)),
    quiet: writers.quiet,
    beforeHealing() {
      acknowledgedOnIsland += meter.after(islander.origin, MAX_LAG);
    },
  };
  for (const fault of Array.from({ length: Number(rounds) }, () => steps()).flat()) {
    await sleep(BETWEEN);
    await fault(stage);
    const judged = name === "partition" ? [mainlander] : functions;
    done.push(meter.end(judged.map(({ origin }) => origin)));
  }
  const ended = functions.filter(({ pod }) => !pod.isRunning()).length;
  return { rounds: done, verdict: await verify(scene, writers), acknowledgedOnIsland, ended };
}

async function withPlainClient(): Promise<PlainOutcome> {
  const world = createWorld(folder);
  const cluster = createCluster(world);
  cluster.start();
  await cluster.healthy();
  const client = world.addPod("plain", "plain");
  client.appear();
  client.start(process.execPath, [join(repository, "test/ha/plain-client.ts")], clientEnvironment);
  const stage: Stage = {
    cluster,
    islander: client,
    stopped: STOPPED.long,
    begin: () => undefined,
    flowing: () => sleep(PLAIN_RECOVERY),
  };
  for (let round = 0; round < Number(rounds); round += 1) {
    await sleep(BETWEEN);
    for (const fault of steps()) await fault(stage);
  }
  client.signal("SIGTERM");
  await client.ended();
  return JSON.parse(readFileSync(join(folder, "plain.log"), "utf8").trim().split("\n").at(-1) ?? "");
}

const outcome = kind === "plain" ? await withPlainClient() : await withFunctions();
writeFileSync(join(folder, "outcome.json"), JSON.stringify(outcome));
process.exit();
