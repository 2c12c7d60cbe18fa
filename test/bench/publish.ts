/**
 * What publishing the audit trail costs: `npm run bench:publish [rounds [requests [tenants]]]`.
 *
 * Two processes serve everything over the same redis-server, one with K_SINK and one without. They take turns at the same load:
 * GET /data/{key} with API keys of 20 tenants over 64 connections, everything on. What is compared is the CPU that each
 * process takes per request, user and system, until the last entry has reached the sink: medians, and the median of the rounds'
 * own ratios, which on a shared machine is the steadier figure. A POST costs as much as a dozen entries: what is paid per
 * entry falls with the entries that a tenant has in 100 ms, so a slow machine is to be asked with fewer tenants.
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  cleanUpOnSignals,
  createProcessTenant,
  ownRedis,
  repository,
  send,
  until,
} from "../support/process.ts";

const CONNECTIONS = 64;
/** In place of the rounds: be the sink. */
const SINK = "sink";
const [rounds = 25, requests = 4_000, tenants = 20] = process.argv.slice(2).map(Number);

const children: ChildProcess[] = [];

interface Seen {
  entries: number;
  events: number;
}

/** Takes events as a broker does, in a process of its own: whoever makes the load must not be the slower for it. */
function beSink(): void {
  const seen: Seen = { entries: 0, events: 0 };
  const server = createServer((incoming, answer) => {
    if (incoming.method === "GET") return answer.end(JSON.stringify(seen));
    seen.entries += Number(incoming.headers["ce-count"]);
    seen.events += 1;
    return incoming.resume().once("end", () => answer.writeHead(202).end());
  });
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
}

async function startSink() {
  const child = fork(import.meta.filename, [SINK]);
  children.push(child);
  const [port] = (await once(child, "message")) as [number];
  const url = `http://127.0.0.1:${port}/`;
  return { url, seen: async () => (await (await fetch(url)).json()) as Seen };
}

async function serve(env: Record<string, string>) {
  const port = await freePort();
  const child = spawn(join(repository, "node_modules/.bin/node"), ["shared/node/main.ts", "all"], {
    cwd: repository,
    env: { ...env, PATH: process.env["PATH"], PORT: String(port), LATCHKEY_MODE: "local" },
    stdio: ["ignore", "ignore", "inherit"],
  });
  children.push(child);
  const origin = `http://127.0.0.1:${port}`;
  const isReady = () =>
    send(origin, "GET", "/health/readiness").then(
      ({ status }) => status === 200,
      () => false,
    );
  await until("the functions to serve", isReady);
  return {
    origin,
    async cpuSeconds() {
      const { text } = await send(origin, "GET", "/metrics");
      return Number(/^process_cpu_seconds_total (\S+)/m.exec(text)?.[1]);
    },
  };
}

/** Every answer must be 200. */
async function load(origin: string, keys: readonly string[], count: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let sent = 0;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${keys[sent++ % keys.length]}` };
      const outgoing = request(`${origin}/data/a`, { agent, headers }, (answer) => {
        answer.resume().once("end", resolve);
        if (answer.statusCode !== 200) reject(new Error(`answered ${answer.statusCode}`));
      });
      outgoing.once("error", reject).end();
    });
  const connection = async () => {
    while (sent < count) await one();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  agent.destroy();
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

async function main(): Promise<void> {
  const redis = await ownRedis(["--appendonly", "no"]);
  const secrets = await makeSecrets("demo");
  const sink = await startSink();
  const env = { REDIS_URL: redis.url, ...secrets };
  const without = await serve(env);
  const publishing = await serve({ ...env, K_SINK: sink.url });

  const keys: string[] = [];
  for (let i = 0; i < tenants; i += 1) {
    const { token: as } = await createProcessTenant(redis.redis, secrets, `tenant${i}`);
    keys.push(
      (await send(without.origin, "POST", "/api-keys", { as, json: { name: "bench" } })).body.key_value,
    );
    await send(without.origin, "POST", "/data", { as, json: { key: "a", value: { text: "hello" } } });
  }

  const spent = { without: [] as number[], publishing: [] as number[] };
  const measure = async (name: keyof typeof spent, count: number): Promise<number> => {
    const server = { without, publishing }[name];
    const awaited = (await sink.seen()).entries + (name === "publishing" ? count : 0);
    const before = await server.cpuSeconds();
    await load(server.origin, keys, count);
    await until("every entry to reach the sink", async () => (await sink.seen()).entries >= awaited);
    return ((await server.cpuSeconds()) - before) / count;
  };
  for (let round = -1; round < rounds; round += 1) {
    const names = (["without", "publishing"] as const).toSorted(() => (round % 2 === 0 ? 1 : -1));
    for (const name of names) {
      const seconds = await measure(name, requests);
      // The first round warms up.
      if (round >= 0) spent[name].push(seconds * 1e6);
    }
  }
  const [bare, whole] = [median(spent.without), median(spent.publishing)];
  const ratio = median(
    spent.publishing.map((seconds, round) => seconds / (spent.without[round] ?? Number.NaN)),
  );
  const { entries, events } = await sink.seen();
  const perEvent = entries / events;
  const lines = [
    `${rounds} rounds of ${requests} requests, ${tenants} tenants, ${CONNECTIONS} connections, ${perEvent.toFixed(1)} entries per event`,
    `CPU per request without publishing: ${bare.toFixed(1)} us, with it: ${whole.toFixed(1)} us`,
    `publishing takes ${(whole - bare).toFixed(1)} us an entry; of a request's CPU, round by round: ${(100 * (ratio - 1)).toFixed(1)} %`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

if (process.argv[2] === SINK) beSink();
else {
  cleanUpOnSignals();
  const failure: unknown = await main().catch((error) => error);
  for (const child of children) child.kill("SIGKILL");
  await cleanUp();
  if (failure !== undefined) process.stderr.write(`${failure}\n`);
  // Connections to the redis-server that is gone would be made again for ever.
  process.exit(failure === undefined ? 0 : 1);
}
