/**
 * Something to monitor: functions as real processes that stand for pods, a Redis with a replica, a broker and the double
 * of Loki; what goes well and what goes wrong with them.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { toEvents } from "../../shared/events.ts";
import { encodeEvent } from "../../shared/node/cloud-events.ts";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { startBroker } from "./broker-double.ts";
import { startDouble } from "./loki-double.ts";
import { entryOf } from "./loki-tools.ts";
import {
  cleanUp,
  createProcessTenant,
  ownRedis,
  type ProcessTenant,
  runScript,
  send,
  until,
} from "./process.ts";
import type { PodPort } from "./prometheus.ts";

export const OUTBOX_LIMIT = 40;
/** Milliseconds for which Redis hangs: longer than a slow request may take, shorter than the client waits. */
const HANG = 800;

/** `data-get` of the pods `data-get-a` and `data-get-b`. */
export const functionOf = (pod: string): string => pod.replace(/-[ab]$/, "");

export type Monitored = Awaited<ReturnType<typeof startMonitored>>;

export async function startMonitored() {
  const port = await freePort();
  const redis = await ownRedis([...["--appendonly", "no"], ...["--port", `${port}`, "--bind", "127.0.0.1"]]);
  const replica = await ownRedis(["--appendonly", "no", "--replicaof", `127.0.0.1 ${port}`]);
  replica.redis.disconnect();
  await until("the replica to follow", async () => (await redis.redis.wait(1, 1_000)) === 1);
  const loki = await startDouble();
  const others = await startOthers();
  const secrets = await makeSecrets("demo");
  const tenant = (id: string) => createProcessTenant(redis.redis, secrets, id);
  /** Loki answers the pushes of the second with 403, and those of the third with 400. */
  const [acme, held, odd] = [await tenant("acme"), await tenant("held"), await tenant("odd")];
  loki.hold(held.id, { do: "answer", status: 403, text: "no\n" });
  loki.hold(odd.id, { do: "answer", status: 400, text: "no line like this\n" });
  const { origins, broker } = await startPods({ ...secrets, REDIS_URL: redis.url, LOKI_URL: loki.url });

  /** Requests by function and status, as they were answered. */
  const answered: Record<string, number> = {};
  async function ask(pod: string, method: string, path: string, options: Parameters<typeof send>[3]) {
    const { status } = await send(origins[pod] as string, method, path, options);
    const key = `${functionOf(pod)} ${status}`;
    answered[key] = (answered[key] ?? 0) + 1;
  }
  const readItems = (pod: string, { token }: ProcessTenant, count: number) =>
    Promise.all(Array.from({ length: count }, () => ask(pod, "GET", "/data/nothing", { as: token })));

  return {
    answered,
    pods: Object.keys(origins).sort(),
    ports: portsOf(origins, addressOf(others)),
    /** Of what is asked and is not ours. */
    hosts: { "loki:3100": addressOf(others), "grafana:3000": addressOf(others) },

    /** Traffic, a full outbox, an entry that Loki does not take, an event that nobody takes, guessed passwords. */
    async traffic(): Promise<void> {
      await readItems("data-get-a", acme, 20);
      await readItems("data-get-b", acme, 5);
      await send(origins["data-get-b"] as string, "GET", "/nowhere");
      await readItems("data-get-a", held, OUTBOX_LIMIT + 5);
      await readItems("data-get-b", odd, 1);
      for (const event of toEvents("/functions/data-get", [entryOf({ tenant_id: "nobody" })])) {
        await fetch(broker.url, { method: "POST", ...(await encodeEvent(event)) });
      }
      const json = { username: "nobody", password: "guess" };
      for (let i = 0; i < 110; i += 1) await ask("token-issue", "POST", "/token", { json });
      await redis.redis.zadd(held.keys.pending, Date.now() - 3_600_000, held.id);
    },

    /** No broker, then a Redis that hangs, then none. */
    async trouble(): Promise<void> {
      await broker.kill();
      await readItems("data-get-a", acme, 1);
      redis.signal("SIGSTOP");
      const slow = readItems("data-get-a", acme, 60);
      await sleep(HANG);
      redis.signal("SIGCONT");
      await slow;
      await redis.kill();
      await readItems("data-get-b", acme, 15);
    },

    async stop(): Promise<void> {
      redis.redis.disconnect();
      others.close();
      await loki.stop();
      await cleanUp();
    },
  };
}

/** Plays queue-proxies, Knative, Loki and Grafana. */
async function startOthers(): Promise<Server> {
  const server = createServer((_, response) => response.end("kn_serving_queue_depth 1\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const addressOf = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;

async function startPods(given: Record<string, string>) {
  const env = {
    ...{
      ...given,
      LATCHKEY_MODE: "local",
      PORT: "0",
      REDIS_MIN_REPLICAS: "1",
      LATCHKEY_LOGIN_MAX_FAILURES: "2",
    },
    ...{ AUDIT_OUTBOX_MAX_ENTRIES: String(OUTBOX_LIMIT), AUDIT_OVERFLOW: "continue" },
  };
  const origins: Record<string, string> = {};
  const start = async (pod: string, K_SINK?: string): Promise<void> => {
    const program = runScript("shared/node/main.ts", { args: [functionOf(pod)], env: { ...env, K_SINK } });
    const [, port] = await program.says(/"port":(\d+)/);
    origins[pod] = `http://127.0.0.1:${port}`;
  };
  await Promise.all(["audit-ship", "audit-dead-letter"].map((pod) => start(pod)));
  const broker = await startBroker({
    subscriber: `${origins["audit-ship"]}/events/audit-ship`,
    deadLetterSink: `${origins["audit-dead-letter"]}/events/audit-dead-letter`,
  });
  const publishing = ["token-issue", "data-get-a", "data-get-b", "audit-relay"];
  await Promise.all(publishing.map((pod) => start(pod, broker.url)));
  return { origins, broker };
}

/** What the API server would list: each pod's ports, and what is not to be asked. */
function portsOf(origins: Readonly<Record<string, string>>, others: string): PodPort[] {
  const nowhere = "127.0.0.1:1";
  const functions = Object.entries(origins).flatMap(([pod, origin]): PodPort[] => {
    const id = functionOf(pod);
    const labels = { "serving.knative.dev/service": id, "serving.knative.dev/revision": `${id}-00001` };
    return [
      { pod, labels, port: "user-port", address: new URL(origin).host },
      { pod, labels, port: "http-usermetric", address: others },
      { pod, labels, port: "http-queueadm", address: nowhere },
    ];
  });
  const ended = { "serving.knative.dev/service": "data-get" };
  return [
    ...functions,
    { pod: "redis-0", port: "redis", address: nowhere },
    { pod: "stranger", port: "user-port", address: nowhere },
    { pod: "data-get-ended", port: "user-port", address: nowhere, labels: ended, phase: "Succeeded" },
    { pod: "elsewhere", port: "user-port", address: nowhere, labels: ended, namespace: "other" },
    ...["knative-serving", "knative-eventing", "kourier-system"].map((namespace) => ({
      ...{ pod: `${namespace}-1`, namespace, labels: { app: "one" }, port: "metrics", address: others },
      annotations: namespace === "kourier-system" ? { "prometheus.io/path": "/stats/prometheus" } : {},
    })),
  ];
}
