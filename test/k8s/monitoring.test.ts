/**
 * Every query of the service's dashboard, every recording rule and every alert, run by a real Prometheus over real
 * processes, with traffic and with all that the alerts are about. Minutes take two seconds here, see support/prometheus.ts.
 * What Kubernetes would do is played: discovery by files, pods by processes. What Grafana draws is not seen.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dashboard, interpolate, queriesOf } from "../support/dashboards.ts";
import { functionOf, type Monitored, OUTBOX_LIMIT, startMonitored } from "../support/monitored.ts";
import { until } from "../support/process.ts";
import { hasPrometheus, MINUTE, startPrometheus, type Target } from "../support/prometheus.ts";

const board = dashboard("latchkey-service");
const values = { __interval: `${MINUTE}ms`, __interval_ms: String(MINUTE), __range: "5m", function: ".*" };
/** It may be that nothing happens that they count; their series exist all the same. */
const mayRest = ["Entries per second on their way (C)"];

const title = "monitoring over a real Prometheus";
describe.skipIf(!hasPrometheus)(
  hasPrometheus ? title : `${title}: there is none on the PATH (Debian package prometheus)`,
  () => {
    let scene: Monitored;
    let prometheus: Awaited<ReturnType<typeof startPrometheus>>;
    /** While all is well. */
    let targets: Target[];
    /** Annotations of the alerts that were pending or firing at some time, by name. */
    const active = new Map<string, Readonly<Record<string, string>>>();

    async function watchAlerts(): Promise<void> {
      for (const { labels, annotations } of await prometheus.alerts())
        active.set(labels["alertname"] ?? "", annotations);
    }
    /** By how much a counter has grown in all, by some of its labels. */
    async function growth(counter: string, ...by: string[]): Promise<Record<string, number>> {
      const sum = `sum by (${by}) (sum_over_time(latchkey:${counter}:increase1m[5m]))`;
      const found = await prometheus.now(sum);
      return Object.fromEntries(
        found.map(({ metric, values }) => [by.map((label) => metric[label]).join(" "), values[0] ?? 0]),
      );
    }
    const starts = () => growth("process_starts", "function");
    const alertNames = async (): Promise<string[]> =>
      (await prometheus.rules()).map(({ name }) => name).filter((name) => name.startsWith("Latchkey"));

    async function allIsWell(): Promise<boolean> {
      await watchAlerts();
      targets = await prometheus.targets();
      const known = Object.values(await starts()).reduce((sum, count) => sum + count, 0);
      return known === scene.pods.length && targets.every(({ health }) => health === "up");
    }
    async function allIsRaised(): Promise<boolean> {
      await watchAlerts();
      return (await alertNames()).every((name) => active.has(name));
    }

    beforeAll(async () => {
      scene = await startMonitored();
      // Before Prometheus asks anybody for the first time.
      const traffic = scene.traffic();
      prometheus = await startPrometheus(scene.ports, scene.hosts);
      await traffic;
      await until("Prometheus to have asked all", allIsWell);
      await scene.trouble();
      // A test below says which are missing.
      await until("all alerts", allIsRaised).catch(() => undefined);
    });
    afterAll(() => scene?.stop());

    test("it asks each function's own port and queue-proxy, and Knative, under their names; and nobody else", async () => {
      const of = (job: string) =>
        targets
          .filter(({ labels }) => labels["job"] === job)
          .map(({ labels: { job: _, ...labels } }) => labels)
          .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
      const named = scene.pods.map((instance) => ({ function: functionOf(instance), instance }));
      expect(of("latchkey")).toEqual(named.map((pod) => ({ ...pod, revision: `${pod.function}-00001` })));
      expect(of("queue-proxy")).toEqual(named);
      expect(of("knative")).toEqual(
        ["knative-eventing", "knative-serving", "kourier-system"].map((namespace) => ({
          ...{ component: "one", instance: `${namespace}-1`, namespace },
        })),
      );
      for (const { labels, scrapeUrl } of targets) {
        const path = labels["namespace"] === "kourier-system" ? "/stats/prometheus" : "/metrics";
        expect(new URL(scrapeUrl).pathname).toBe(path);
      }
      expect([...new Set(targets.map(({ labels }) => labels["job"]))].sort()).toEqual([
        ...["grafana", "knative", "latchkey", "loki", "prometheus", "queue-proxy"],
      ]);
    });

    test("each request is counted, also those before Prometheus asked for the first time, of all pods together", async () => {
      // The last minute is recorded when it is over.
      await expect
        .poll(() => growth("requests_total", "function", "status"))
        .toMatchObject({ ...scene.answered, "none 404": 1 });
      expect(scene.answered["token-issue 429"]).toBe(108);
      // Without Redis; on a busy machine some also while it hung.
      expect(scene.answered["data-get 503"]).toBeGreaterThanOrEqual(15);
    });

    test("each start of a process is counted", async () => {
      expect(await starts()).toEqual({
        ...{ "audit-dead-letter": 1, "audit-relay": 1, "audit-ship": 1, "data-get": 2, "token-issue": 1 },
      });
    });

    const queries = queriesOf(board).map((one) => [one.name, one] as const);
    test.each(queries)("the panel “%s” has data", async (name, { expr, isInstant }) => {
      const query = interpolate(expr, values);
      const found = isInstant ? await prometheus.now(query) : await prometheus.sinceStart(query);
      const numbers = found.flatMap((one) => one.values).filter(Number.isFinite);
      expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...numbers)).toBeGreaterThan(mayRest.includes(name) ? -1 : 0);
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
        if (!name.startsWith("latchkey:")) continue;
        expect([name, (await prometheus.sinceStart(name)).length > 0]).toEqual([name, true]);
      }
    });

    test("every alert was raised by what it is about, and says so", async () => {
      expect([...active.keys()].sort()).toEqual((await alertNames()).sort());
      for (const [name, { summary = "" }] of active)
        expect([name, summary]).toEqual([name, expect.not.stringMatching(/[{}<]|NaN|%!/)]);
    });
  },
);
