/**
 * What publishing the audit trail costs: `npm run bench:publish [rounds [requests]]`.
 *
 * Two processes serve everything over the same redis-server, one with K_SINK and one without. They take turns at the same load:
 * GET /data/{key} with API keys of 20 tenants over 64 connections, everything on. What is compared is the CPU that each
 * process takes per request, user and system, until the last entry has reached the sink: medians, and the median of the rounds'
 * own ratios, which on a shared machine is the steadier figure.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { cleanUp, createProcessTenant, ownRedis, repository, send, until } from "../support/process.ts";

const TENANTS = 20;
const CONNECTIONS = 64;
const [rounds = 25, requests = 4_000] = process.argv.slice(2).map(Number);

/** Takes events as a broker does, and counts their entries. */
async function startSink() {
  const seen = { entries: 0, events: 0 };
  const server = createServer((incoming, answer) => {
    seen.entries += Number(incoming.headers["ce-count"]);
    seen.events += 1;
    incoming.resume().once("end", () => answer.writeHead(202).end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/default/audit` };
}

const children: ChildProcess[] = [];

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
  for (let i = 0; i < TENANTS; i += 1) {
    const { token: as } = await createProcessTenant(redis.redis, secrets, `tenant${i}`);
    keys.push(
      (await send(without.origin, "POST", "/api-keys", { as, json: { name: "bench" } })).body.key_value,
    );
    await send(without.origin, "POST", "/data", { as, json: { key: "a", value: { text: "hello" } } });
  }

  const spent = { without: [] as number[], publishing: [] as number[] };
  const measure = async (name: keyof typeof spent, count: number): Promise<number> => {
    const server = { without, publishing }[name];
    const awaited = sink.seen.entries + (name === "publishing" ? count : 0);
    const before = await server.cpuSeconds();
    await load(server.origin, keys, count);
    await until("every entry to reach the sink", () => sink.seen.entries >= awaited);
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
  const perEvent = sink.seen.entries / sink.seen.events;
  const lines = [
    `${rounds} rounds of ${requests} requests, ${TENANTS} tenants, ${CONNECTIONS} connections, ${perEvent.toFixed(1)} entries per event`,
    `CPU per request without publishing: ${bare.toFixed(1)} us, with it: ${whole.toFixed(1)} us`,
    `publishing takes ${(whole - bare).toFixed(1)} us an entry; of a request's CPU, round by round: ${(100 * (ratio - 1)).toFixed(1)} %`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

try {
  await main();
} finally {
  for (const child of children) child.kill("SIGKILL");
  await cleanUp();
}
process.exit(0);
