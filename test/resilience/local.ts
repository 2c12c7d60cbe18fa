/** An installation of processes on this machine: three Redis with three Sentinels, a process per function, a broker, a Loki. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setInterval } from "node:timers/promises";
import { Redis } from "ioredis";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { hostOf } from "../../shared/node/dev/manifests/public-paths.ts";
import { type Endpoint, routes } from "../../shared/routes.ts";
import { startFunctions, startHostRouter } from "../support/gateway.ts";
import { createHttpClient } from "../support/http-client.ts";
import { realLoki, startLoki } from "../support/loki.ts";
import {
  cleanUp,
  createProcessTenant,
  type Program,
  run,
  runScript,
  temporaryFolder,
  until,
} from "../support/process.ts";
import { confirmWrites } from "../support/redis-servers.ts";
import { linesSince } from "./loki-lines.ts";
import type { Target, Victim } from "./target.ts";

const MASTER_NAME = "latchkey";
/** Milliseconds: without fsync pauses of a shared disk a second of silence is a dead Redis. */
const DOWN_AFTER = 1_000;
/** Milliseconds between two ticks of what a PingSource calls every minute. */
const TICK = 1_500;
const PATIENCE = 60_000;

interface RedisNode {
  readonly port: number;
  start(master: number | undefined): void;
  kill(): Promise<number>;
}

function createNode(port: number): RedisNode {
  const cwd = temporaryFolder();
  let program: Program | undefined;
  return {
    port,
    start(master) {
      const follow = master === undefined ? [] : ["--replicaof", "127.0.0.1", String(master)];
      const args = ["--port", String(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""];
      program = run("redis-server", [...args, "--maxmemory-policy", "noeviction", ...follow], { cwd });
    },
    async kill() {
      const { pid } = program as Program;
      program?.kill("SIGKILL");
      await program?.ended();
      return pid;
    },
  };
}

async function startRedis() {
  const nodes: RedisNode[] = [];
  for (let copy = 0; copy < 3; copy += 1) nodes.push(createNode(await freePort()));
  const [first] = nodes as [RedisNode];
  for (const node of nodes) node.start(node === first ? undefined : first.port);
  const sentinels: number[] = [];
  for (let copy = 0; copy < 3; copy += 1) {
    const port = await freePort();
    const cwd = temporaryFolder();
    const lines = [
      `port ${port}`,
      "bind 127.0.0.1",
      `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${first.port} 2`,
      `sentinel down-after-milliseconds ${MASTER_NAME} ${DOWN_AFTER}`,
      `sentinel failover-timeout ${MASTER_NAME} 10000`,
    ];
    writeFileSync(join(cwd, "sentinel.conf"), lines.join("\n"));
    run("redis-server", ["sentinel.conf", "--sentinel"], { cwd });
    sentinels.push(port);
  }
  const connections = sentinels.map((port) => quiet(port));

  /** The node that the Sentinels name, once two replicas follow it and all Sentinels know that. */
  async function healthyMaster(): Promise<RedisNode | undefined> {
    const seen = await Promise.all(connections.map((sentinel) => describe(sentinel)));
    const ports = new Set(seen.map(({ port }) => port));
    const isAgreed =
      ports.size === 1 && seen.every(({ replicas, sentinels }) => replicas === 2 && sentinels === 2);
    const node = isAgreed ? nodes.find(({ port }) => port === seen[0]?.port) : undefined;
    if (node === undefined) return undefined;
    const master = quiet(node.port);
    const isFollowed = await confirmWrites(master, 2).catch(() => false);
    master.disconnect();
    return isFollowed ? node : undefined;
  }

  return {
    sentinels: sentinels.map((port) => `127.0.0.1:${port}`).join(),
    healthyMaster: () => until("a master with two replicas", healthyMaster, PATIENCE),
    /** kill -9; it comes back when another is master, as the one of a StatefulSet does. @returns when it is dead */
    async killMaster(): Promise<string> {
      const node = await until("a master with two replicas", healthyMaster, PATIENCE);
      const pid = await node.kill();
      const follow = async () => {
        const next = await until(
          "a new master",
          async () => {
            const { port } = await describe(connections[0] as Redis);
            return port === node.port ? undefined : port;
          },
          PATIENCE,
        );
        node.start(next);
      };
      follow().catch(() => undefined);
      return `redis at ${node.port} (pid ${pid})`;
    },
    stop: () => connections.forEach((connection) => void connection.disconnect()),
  };
}

function quiet(port: number): Redis {
  const redis = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: null, enableReadyCheck: false });
  return redis.on("error", () => undefined);
}

/** What a Sentinel says of the master. */
async function describe(sentinel: Redis) {
  const words = (await sentinel.call("SENTINEL", "MASTER", MASTER_NAME)) as string[];
  const said = (name: string) => Number(words[words.indexOf(name) + 1]);
  return { port: said("port"), replicas: said("num-slaves"), sentinels: said("num-other-sentinels") };
}

const routeFor = (method: string, path: string): Endpoint => {
  const found = (routes as readonly Endpoint[]).find(
    (route) =>
      route.method === method && new RegExp(`^${route.path.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(path),
  );
  if (found === undefined) throw new Error(`no route for ${method} ${path}`);
  return found;
};

export async function localTarget(): Promise<Target> {
  const stops: (() => unknown)[] = [];
  const close = async () => {
    await cleanUp();
    await Promise.all(stops.map((stop) => stop()));
  };
  try {
    return { ...(await open(stops)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function open(stops: (() => unknown)[]): Promise<Omit<Target, "close">> {
  const redis = await startRedis();
  stops.push(redis.stop);
  const loki = await startLoki();
  stops.push(loki.stop);
  const secrets = await makeSecrets("demo");
  const brokerPort = await freePort();
  const { LATCHKEY_JWT_PRIVATE_KEY = "", ...shared } = secrets;
  const functions = startFunctions((id) => ({
    LATCHKEY_MODE: "local",
    ...shared,
    ...(id === "token-issue" ? { LATCHKEY_JWT_PRIVATE_KEY } : {}),
    REDIS_SENTINELS: redis.sentinels,
    REDIS_MASTER_NAME: MASTER_NAME,
    REDIS_MIN_REPLICAS: "1",
    LOKI_URL: loki.url,
    K_SINK: `http://127.0.0.1:${brokerPort}/default/audit`,
  }));
  const router = await startHostRouter(functions);
  stops.push(router.stop);
  const origin = `http://127.0.0.1:${router.port}`;
  runScript("test/support/broker-process.ts", {
    args: [String(brokerPort), `${origin}/events/audit-ship`],
  });
  await until("the broker", () => answers(`http://127.0.0.1:${brokerPort}/default/audit`));

  const master = await redis.healthyMaster();
  const store = quiet(master.port);
  const name = crypto.randomUUID().slice(0, 8);
  const tenants = [];
  for (const id of [`alpha-${name}`, `beta-${name}`])
    tenants.push(await createProcessTenant(store, secrets, id));
  store.disconnect();

  const client = createHttpClient(origin);
  stops.push(client.close);
  const ticks = new AbortController();
  stops.push(() => ticks.abort());
  void tick(`${origin}/events/audit-relay`, ticks.signal);

  return {
    name: `processes on this machine, Loki: ${loki.kind === "real" ? `real (${realLoki()})` : "the double"}`,
    callers: tenants.map(({ id, token }) => ({ tenant: id, token })),
    async request({ method, path, token, requestId, json }) {
      const headers = new Headers({
        host: hostOf(routeFor(method, path).id),
        authorization: `Bearer ${token}`,
        "x-request-id": requestId,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
      });
      const body = json === undefined ? undefined : JSON.stringify(json);
      const answer = await client.send({ method, path, headers, body });
      return { status: answer.status, body: answer.text === "" ? undefined : JSON.parse(answer.text) };
    },
    async kill(victim: Victim) {
      if (victim === "redis-master") return redis.killMaster();
      const id = victim === "function" ? "data-create" : "audit-ship";
      return `${id} (pid ${await functions.kill(id)})`;
    },
    lines: (tenant, since) => linesSince(loki.url, tenant, since),
  };
}

async function answers(url: string): Promise<boolean> {
  return fetch(url, { method: "OPTIONS" }).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function tick(url: string, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of setInterval(TICK, undefined, { signal })) {
      await fetch(url, { method: "POST", signal }).then(
        (response) => response.text(),
        () => undefined,
      );
    }
  } catch {
    // It was told to end.
  }
}
