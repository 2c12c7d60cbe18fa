/**
 * `npm run bench:wait [-- <rounds>]`: what it costs that an update is answered only when a replica has it. Two processes over
 * the same master, one that waits and one that does not, take turns under 64 connections that replace items of 100 bytes.
 */
import { Agent, request } from "node:http";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  cleanUpOnSignals,
  createProcessTenant,
  runScript,
  send,
  until,
} from "../support/process.ts";
import { startReplica, startServer } from "../support/redis-servers.ts";

const rounds = Number(process.argv[2] ?? 7);
const CONNECTIONS = 64;
/** Milliseconds of load in each turn, and before the first one. */
const TURN = 3_000;
const TARGET = 0.7;

cleanUpOnSignals();
const master = await startServer();
const replica = await startReplica(master);
const secrets = await makeSecrets("bench");
const tenant = await createProcessTenant(master.admin, secrets, "bench");
const nodes = [master.address, replica.address].join();

async function serve(minReplicas: string): Promise<string> {
  const port = await freePort();
  runScript("shared/node/main.ts", {
    args: ["all"],
    env: {
      ...secrets,
      PORT: String(port),
      REDIS_NODES: nodes,
      REDIS_MIN_REPLICAS: minReplicas,
      AUDIT_OUTBOX_MAX_ENTRIES: "100000000",
      LATCHKEY_MODE: "local",
      LATCHKEY_LOG_LEVEL: "error",
    },
  });
  const origin = `http://127.0.0.1:${port}`;
  const isReady = () => send(origin, "GET", "/health/readiness").then(({ status }) => status === 200);
  await until("the process to be ready", () => isReady().catch(() => false));
  return origin;
}

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
const body = JSON.stringify({ value: "x".repeat(100) });
const headers = {
  authorization: `Bearer ${tenant.token}`,
  "content-type": "application/json",
  "content-length": String(body.length),
};

const put = (url: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { method: "PUT", agent, headers }, (response) => {
      response.resume().once("end", resolve);
      if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
    });
    sent.once("error", reject).end(body);
  });

/** @returns updates a second */
async function turn(origin: string): Promise<number> {
  const end = performance.now() + TURN;
  let done = 0;
  const client = async (_: unknown, i: number) => {
    for (; performance.now() < end; done += 1) await put(`${origin}/data/k${i}`);
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  return (done / TURN) * 1000;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const median = (all: number[]): number => all.sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;

try {
  const contenders = [await serve("0"), await serve("1")] as const;
  for (let i = 0; i < CONNECTIONS; i += 1)
    await send(contenders[0], "POST", "/data", { as: tenant.token, json: { key: `k${i}`, value: 1 } });
  for (const origin of contenders) await turn(origin);
  const ratios: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const [without, waiting] = [await turn(contenders[0]), await turn(contenders[1])];
    ratios.push(waiting / without);
    say(`${round}: ${Math.round(without)}/s without WAIT, ${Math.round(waiting)}/s with`);
  }
  say(`with WAIT / without: ${median(ratios).toFixed(2)} (median of ${rounds}; target ${TARGET})`);
} finally {
  agent.destroy();
  for (const { admin } of [master, replica]) admin.disconnect();
  await cleanUp();
}
