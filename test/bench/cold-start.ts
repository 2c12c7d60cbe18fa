/**
 * `npm run bench:cold-start [-- <rounds>]`: how long after being started a function, bundled and with its compiled code as
 * in the image, has answered its first authenticated request; and what it takes of memory when idle. Against a bare
 * node:http server, in turns, each round with its own ratio, because a shared machine is not the same a minute later; CPU
 * time is steadier there. The bare server is an ES module, as programs are now, so it loads Node's fetch, which importing
 * node:http does. As CommonJS, which the bundles are, it does not, and starts 20 ms earlier: that ratio is shown as well.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { writeBundles } from "../../shared/node/dev/bundles.ts";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { type Route, routes } from "../../shared/routes.ts";
import { ask, prepare } from "../support/endpoints.ts";
import {
  cleanUp,
  cleanUpOnSignals,
  createProcessTenant,
  ownRedis,
  repository,
  send,
  temporaryFolder,
} from "../support/process.ts";

const rounds = Number(process.argv[2] ?? 15);
const TARGETS: Readonly<Record<string, number>> = { "token-issue": 2.2 };
const TARGET = 1.8;
const MEMORY_TARGET = 1.3;
/** Milliseconds after the first answer until a process counts as idle. */
const IDLE = 1_000;

const BARE = `
import { createServer } from "node:http";
const server = createServer((_, response) => response.writeHead(200, { "content-type": "application/json" }).end("{}"));
server.listen(process.env.PORT, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));`;
const BARE_REDIS = `
import { createServer } from "node:http";
import { Redis } from "ioredis";
const redis = new Redis(process.env.REDIS_URL);
const server = createServer((_, response) => redis.get("x").then((x) => response.end(JSON.stringify({ x }))));
server.listen(process.env.PORT, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));`;

interface Start {
  /** Milliseconds from the start of the process to its first answer. */
  readonly wall: number;
  /** Milliseconds of CPU, of all its threads, until then. */
  readonly cpu: number;
  /** Resident MiB, when idle. */
  readonly memory: number;
}

cleanUpOnSignals();
const folder = join(temporaryFolder(), "dist");
await writeBundles(folder);
execFileSync(process.execPath, [join(repository, "shared/node/dev/fill-code-cache.ts"), folder]);
writeFileSync(join(folder, "bare.mjs"), BARE);
writeFileSync(join(folder, "bare.cjs"), BARE.replace(/^import (.*) from (.*);$/m, "const $1 = require($2);"));
// Beside the packages, as a program without a bundle would have it.
const bareRedis = join(repository, "node_modules/.bare-redis.mjs");
writeFileSync(bareRedis, BARE_REDIS);
process.once("exit", () => rmSync(bareRedis));

const redisPort = await freePort();
const redis = await ownRedis(["--appendonly", "no", "--bind", "127.0.0.1", "--port", String(redisPort)]);
const secrets = await makeSecrets("bench");
const tenant = await createProcessTenant(redis.redis, secrets, "bench");
const env = { ...secrets, PORT: "0", REDIS_URL: `redis://127.0.0.1:${redisPort}` };

async function launch(program: string) {
  const started = performance.now();
  const child = spawn(process.execPath, [program], {
    cwd: folder,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(child.stdout.setEncoding("utf8"), "data");
  const [, port] = /"port":(\d+)/.exec(line) ?? [];
  if (port === undefined) throw new Error(`${program} does not listen: ${line}`);
  return { started, child, origin: `http://127.0.0.1:${port}` };
}

/** Start a program and ask it once. @param idle whether to wait until it is, to see what memory it takes then */
async function start(
  program: string,
  request: (origin: string) => Promise<boolean>,
  idle = false,
): Promise<Start> {
  const { started, child, origin } = await launch(program);
  const isRight = await request(origin);
  const wall = performance.now() - started;
  if (!isRight) throw new Error(`${program} gave a wrong answer`);
  const cpu = cpuOf(`/proc/${child.pid}/task`);
  if (idle) await delay(IDLE);
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  const ended = once(child, "close");
  child.kill("SIGKILL");
  await ended;
  const memory = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  return { wall, cpu, memory };
}

/** Milliseconds of CPU of all threads of a process. */
function cpuOf(tasks: string): number {
  const each = readdirSync(tasks).map((task) => {
    try {
      // proc(5), schedstat: the first figure is time spent on the CPU, in nanoseconds.
      return Number.parseInt(readFileSync(`${tasks}/${task}/schedstat`, "utf8"), 10) / 1e6;
    } catch {
      return 0; // It has ended meanwhile.
    }
  });
  return each.reduce((sum, one) => sum + one, 0);
}

const simple = async (origin: string) => (await send(origin, "GET", "/")).status === 200;

const all = await launch("all");
async function own(route: Route): Promise<Start> {
  const keyId = await prepare(all.origin, tenant, route.id);
  return start(route.id, async (origin) => {
    const { status, expected } = await ask(origin, route, tenant, keyId);
    return status === expected;
  });
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const say = (line: string) => process.stdout.write(`${line}\n`);

try {
  await benchStart();
  await benchMemory();
} finally {
  all.child.kill();
  redis.redis.disconnect();
  await cleanUp();
}

async function benchStart(): Promise<void> {
  say(
    `Start to first authenticated answer; medians of ${rounds} rounds, bare node:http and function in turns`,
  );
  say("function              ms   bare ms   ratio  (CPU)   target  of CommonJS  (CPU)");
  for (const route of routes) {
    const pairs: { ours: Start; bare: Start; common: Start }[] = [];
    // The first of each is not counted.
    for (let round = 0; round <= rounds; round += 1) {
      const [bare, common] = [await start("bare.mjs", simple), await start("bare.cjs", simple)];
      pairs.push({ bare, common, ours: await own(route) });
    }
    pairs.shift();
    const of = (what: (pair: (typeof pairs)[number]) => number) => median(pairs.map(what));
    const ratio = of(({ ours, bare }) => ours.wall / bare.wall);
    const target = TARGETS[route.id] ?? TARGET;
    say(
      [
        route.id.padEnd(16),
        of(({ ours }) => ours.wall)
          .toFixed(1)
          .padStart(8),
        of(({ bare }) => bare.wall)
          .toFixed(1)
          .padStart(9),
        ratio.toFixed(2).padStart(7),
        of(({ ours, bare }) => ours.cpu / bare.cpu)
          .toFixed(2)
          .padStart(7),
        target.toFixed(1).padStart(8),
        of(({ ours, common }) => ours.wall / common.wall)
          .toFixed(2)
          .padStart(13),
        of(({ ours, common }) => ours.cpu / common.cpu)
          .toFixed(2)
          .padStart(7),
        ratio > target ? "  missed" : "",
      ].join(""),
    );
  }
}

async function benchMemory(): Promise<void> {
  const [route] = routes.filter(({ id }) => id === "data-get");
  const keyId = await prepare(all.origin, tenant, "data-get");
  const asked = async (origin: string) => (await ask(origin, route as Route, tenant, keyId)).status === 200;
  const ours: number[] = [];
  const yardstick: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    yardstick.push((await start(bareRedis, simple, true)).memory);
    ours.push((await start("data-get", asked, true)).memory);
  }
  const ratio = median(ours) / median(yardstick);
  say(
    `\nIdle memory (RSS): data-get ${median(ours).toFixed(1)} MiB, bare node:http + ioredis ` +
      `${median(yardstick).toFixed(1)} MiB, ratio ${ratio.toFixed(2)}, target ${MEMORY_TARGET}${ratio > MEMORY_TARGET ? ", missed" : ""}`,
  );
}
