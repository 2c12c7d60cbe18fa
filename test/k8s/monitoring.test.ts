/**
 * Every query of the service's dashboard, every recording rule and every alert, run by a real Prometheus over real
 * processes, with traffic and with all that the alerts are about. Minutes take two seconds here, see support/prometheus.ts.
 * What Kubernetes would do is played: discovery by files, pods by processes. What Grafana draws is not seen.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toEvents } from "../../shared/events.ts";
import { encodeEvent } from "../../shared/node/cloud-events.ts";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { type RunningBroker, startBroker } from "../support/broker-double.ts";
import { dashboard, interpolate, queriesOf } from "../support/dashboards.ts";
import { type LokiDouble, startDouble } from "../support/loki-double.ts";
import { entryOf } from "../support/loki-tools.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  type ProcessTenant,
  runScript,
  send,
  until,
} from "../support/process.ts";
import { hasPrometheus, MINUTE, type PodPort, startPrometheus, type Target } from "../support/prometheus.ts";

const OUTBOX_LIMIT = 40;
/** Milliseconds for which Redis hangs: longer than a slow request may take, shorter than the client waits. */
const HANG = 800;

/** Milliseconds for a process to serve: six of them start at once. */
const START_TIMEOUT = 40_000;

const board = dashboard("latchkey-service");
const values = { __interval: `${MINUTE}ms`, __interval_ms: String(MINUTE), __range: "5m", function: ".*" };

const addressOf = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;

/** `data-get` of the pods `data-get-a` and `data-get-b`. */
const functionOf = (pod: string): string => pod.replace(/-[ab]$/, "");

const title = "monitoring over a real Prometheus";
describe.skipIf(!hasPrometheus)(
  hasPrometheus ? title : `${title}: there is none on the PATH (Debian package prometheus)`,
  () => {
    let prometheus: Awaited<ReturnType<typeof startPrometheus>>;
    let redis: OwnRedis;
    let loki: LokiDouble;
    let broker: RunningBroker;
    /** While all is well. */
    let targets: Target[];
    let acme: ProcessTenant;
    /** Loki answers its pushes with 403, and those of the other with 400. */
    let held: ProcessTenant;
    let odd: ProcessTenant;
    const origins: Record<string, string> = {};
    /** Requests by function and status, as they were answered. */
    const answered: Record<string, number> = {};
    /** Alerts that were pending or firing at some time, by name. */
    const active = new Map<string, Readonly<Record<string, string>>>();
    /** Plays what is not ours: queue-proxies, Knative, Loki and Grafana. */
    const others = createServer((_, response) => response.end("kn_serving_queue_depth 1\n"));

    async function ask(
      pod: string,
      ...request: Parameters<typeof send> extends [string, ...infer R] ? R : never
    ) {
      const { status } = await send(origins[pod] as string, ...request);
      const key = `${functionOf(pod)} ${status}`;
      answered[key] = (answered[key] ?? 0) + 1;
    }
    const readItems = (pod: string, { token }: ProcessTenant, count: number) =>
      Promise.all(Array.from({ length: count }, () => ask(pod, "GET", "/data/nothing", { as: token })));

    /** An event as somebody inside the cluster could publish it. */
    async function publish(entry: ReturnType<typeof entryOf>): Promise<void> {
      for (const event of toEvents("/functions/data-get", [entry])) {
        await fetch(broker.url, { method: "POST", ...(await encodeEvent(event)) });
      }
    }

    async function startPods(secrets: Record<string, string>): Promise<void> {
      const env = {
        ...secrets,
        ...{ LATCHKEY_MODE: "local", PORT: "0", REDIS_URL: redis.url, LOKI_URL: loki.url },
        ...{ AUDIT_OUTBOX_MAX_ENTRIES: String(OUTBOX_LIMIT), AUDIT_OVERFLOW: "continue" },
        ...{ LATCHKEY_LOGIN_MAX_FAILURES: "2", REDIS_MIN_REPLICAS: "1" },
      };
      const start = async (pod: string, K_SINK?: string) => {
        const id = functionOf(pod);
        const program = runScript("shared/node/main.ts", { args: [id], env: { ...env, K_SINK } });
        const look = () => /"port":(\d+)/.exec(program.stdout());
        const [, port] = await until(`${pod} to serve`, look, START_TIMEOUT);
        origins[pod] = `http://127.0.0.1:${port}`;
      };
      await Promise.all([start("audit-ship"), start("audit-dead-letter")]);
      broker = await startBroker({
        subscriber: `${origins["audit-ship"]}/events/audit-ship`,
        deadLetterSink: `${origins["audit-dead-letter"]}/events/audit-dead-letter`,
      });
      const publishing = ["token-issue", "data-get-a", "data-get-b", "audit-relay"];
      await Promise.all(publishing.map((pod) => start(pod, broker.url)));
    }

    /** What the API server would list: each pod's ports, and what is not to be asked. */
    function ports(): PodPort[] {
      const proxy = addressOf(others);
      const nowhere = "127.0.0.1:1";
      const functions = Object.entries(origins).flatMap(([pod, origin]): PodPort[] => {
        const id = functionOf(pod);
        const labels = { "serving.knative.dev/service": id, "serving.knative.dev/revision": `${id}-00001` };
        return [
          { pod, labels, port: "user-port", address: new URL(origin).host },
          { pod, labels, port: "http-usermetric", address: proxy },
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
          ...{ pod: `${namespace}-1`, namespace, labels: { app: "one" }, port: "metrics", address: proxy },
          annotations: namespace === "kourier-system" ? { "prometheus.io/path": "/stats/prometheus" } : {},
        })),
      ];
    }

    /** Before Prometheus has asked anybody for the first time. */
    async function firstTraffic(): Promise<void> {
      loki.hold(held.id, { do: "answer", status: 403, text: "no\n" });
      await readItems("data-get-a", acme, 20);
      await readItems("data-get-b", acme, 5);
      await send(origins["data-get-b"] as string, "GET", "/nowhere");
      await readItems("data-get-a", held, OUTBOX_LIMIT + 5);
      loki.hold(odd.id, { do: "answer", status: 400, text: "no line like this\n" });
      await readItems("data-get-b", odd, 1);
      await publish(entryOf({ tenant_id: "nobody" }));
      const json = { username: "nobody", password: "guess" };
      for (let i = 0; i < 110; i += 1) await ask("token-issue", "POST", "/token", { json });
      await redis.redis.zadd(held.keys.pending, Date.now() - 3_600_000, held.id);
    }

    async function trouble(): Promise<void> {
      await broker.kill();
      await readItems("data-get-a", acme, 1);
      redis.signal("SIGSTOP");
      const slow = readItems("data-get-a", acme, 60);
      await new Promise((resolve) => setTimeout(resolve, HANG));
      redis.signal("SIGCONT");
      await slow;
      await redis.kill();
      await readItems("data-get-b", acme, 15);
    }

    async function watchAlerts(): Promise<void> {
      for (const { labels, annotations } of await prometheus.alerts())
        active.set(labels["alertname"] ?? "", annotations);
    }
    /** By how much a counter has grown in all, by some of its labels. */
    const growth = async (counter: string, ...by: string[]): Promise<Record<string, number>> => {
      const sum = `sum by (${by}) (sum_over_time(latchkey:${counter}:increase1m[5m]))`;
      const found = await prometheus.now(sum);
      return Object.fromEntries(
        found.map(({ metric, values }) => [by.map((label) => metric[label]).join(" "), values[0] ?? 0]),
      );
    };
    const starts = () => growth("process_starts", "function");

    beforeAll(async () => {
      await new Promise<void>((resolve) => others.listen(0, "127.0.0.1", resolve));
      const port = await freePort();
      redis = await ownRedis([...["--appendonly", "no"], ...["--port", `${port}`, "--bind", "127.0.0.1"]]);
      const replica = await ownRedis(["--appendonly", "no", "--replicaof", `127.0.0.1 ${port}`]);
      replica.redis.disconnect();
      await until("the replica to follow", async () => (await redis.redis.wait(1, 1_000)) === 1);
      loki = await startDouble();
      const secrets = await makeSecrets("demo");
      acme = await createProcessTenant(redis.redis, secrets, "acme");
      held = await createProcessTenant(redis.redis, secrets, "held");
      odd = await createProcessTenant(redis.redis, secrets, "odd");
      await startPods(secrets);
      const traffic = firstTraffic();
      const other = addressOf(others);
      prometheus = await startPrometheus(ports(), { "loki:3100": other, "grafana:3000": other });
      await traffic;
      await until(
        "Prometheus to have asked all",
        async () => {
          await watchAlerts();
          targets = await prometheus.targets();
          const known = Object.values(await starts()).reduce((sum, count) => sum + count, 0);
          return known === Object.keys(origins).length && targets.every(({ health }) => health === "up");
        },
        40_000,
      );
      await trouble();
      await until(
        "all alerts",
        async () => {
          await watchAlerts();
          const names = (await prometheus.rules())
            .filter(({ name }) => /^Latchkey/.test(name))
            .map(({ name }) => name);
          return names.length > 0 && names.every((name) => active.has(name));
        },
        20_000,
        // A test below says which are missing.
      ).catch(() => undefined);
    }, 120_000);
    afterAll(async () => {
      redis?.redis.disconnect();
      others.close();
      await loki?.stop();
      await cleanUp();
    });

    test("it asks each function's own port and queue-proxy, and Knative, under their names; and nobody else", async () => {
      const of = (job: string) =>
        targets
          .filter(({ labels }) => labels["job"] === job)
          .map(({ labels: { job: _, ...labels } }) => labels)
          .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
      const pods = Object.keys(origins).sort();
      const named = pods.map((instance) => ({
        function: functionOf(instance),
        instance,
      }));
      expect(of("latchkey")).toEqual(named.map((pod) => ({ ...pod, revision: `${pod.function}-00001` })));
      expect(of("queue-proxy")).toEqual(named);
      expect(of("knative")).toEqual(
        ["knative-eventing", "knative-serving", "kourier-system"].map((namespace) => ({
          ...{ component: "one", instance: `${namespace}-1`, namespace },
        })),
      );
      const paths = targets.map(({ labels, scrapeUrl }) => [
        labels["namespace"],
        new URL(scrapeUrl).pathname,
      ]);
      for (const [namespace, path] of paths)
        expect(path).toBe(namespace === "kourier-system" ? "/stats/prometheus" : "/metrics");
      expect([...new Set(targets.map(({ labels }) => labels["job"]))].sort()).toEqual([
        ...["grafana", "knative", "latchkey", "loki", "prometheus", "queue-proxy"],
      ]);
    });

    test("each request is counted, also those before Prometheus asked for the first time, of all pods together", async () => {
      // The last minute is recorded when it is over.
      await expect
        .poll(() => growth("requests_total", "function", "status"), { timeout: 10_000 })
        .toMatchObject({ ...answered, "none 404": 1 });
      expect(answered).toMatchObject({ "data-get 503": 15, "token-issue 429": 108 });
    });

    test("each start of a process is counted", async () => {
      expect(await starts()).toEqual({
        ...{ "audit-dead-letter": 1, "audit-relay": 1, "audit-ship": 1, "data-get": 2, "token-issue": 1 },
      });
    });

    const queries = queriesOf(board).map((one) => [one.name, one] as const);
    test.each(queries)("the panel “%s” has data", async (_, { expr, isInstant }) => {
      const query = interpolate(expr, values);
      const found = isInstant ? await prometheus.now(query) : await prometheus.sinceStart(query);
      const numbers = found.flatMap((one) => one.values).filter(Number.isFinite);
      expect(numbers.length).toBeGreaterThan(0);
      expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    });

    test("the numbers at a glance are what happened", async () => {
      const shown = async (name: string) => {
        const [query] = queriesOf(board).filter((one) => one.name === name);
        return (await prometheus.now(interpolate(query?.expr ?? "", values)))[0]?.values[0];
      };
      expect(await shown("Entries quarantined")).toBe(1);
      expect(await shown("Tenants on hold")).toBe(1);
      expect(await shown("Dead letters kept")).toBe(1);
      expect(await shown("Logins refused")).toBe(110);
      expect(await shown("Oldest entry not in Loki")).toBeGreaterThan(3_600);
      expect(await shown("Entries waiting")).toBeGreaterThanOrEqual(OUTBOX_LIMIT);
      expect(await shown("Requests that failed")).toBeGreaterThan(0);
    });

    test("the dashboard's variable lists the functions", async () => {
      for (const { query } of board.templating.list) {
        const [, match = "", label = ""] = /^label_values\((.+), (\w+)\)$/.exec(query.query) ?? [];
        expect(await prometheus.labelValues(label, match)).toEqual(
          expect.arrayContaining(["audit-ship", "data-get", "token-issue"]),
        );
      }
    });

    test("every rule can be evaluated, and every recording rule has recorded", async () => {
      for (const { name, health, lastError } of await prometheus.rules()) {
        expect([name, health, lastError ?? ""]).toEqual([name, "ok", ""]);
        if (name.startsWith("latchkey:"))
          expect([name, (await prometheus.sinceStart(name)).length > 0]).toEqual([name, true]);
      }
    });

    test("every alert was raised by what it is about, and says so", async () => {
      const alerts = (await prometheus.rules())
        .map(({ name }) => name)
        .filter((name) => name.startsWith("Latchkey"));
      expect([...active.keys()].sort()).toEqual(alerts.sort());
      for (const [name, { summary = "" }] of active)
        expect([name, summary]).toEqual([name, expect.not.stringMatching(/[{}<]|NaN|%!/)]);
    });
  },
);
