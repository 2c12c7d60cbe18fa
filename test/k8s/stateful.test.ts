/** What the scripts of Redis, and the promises of the documentation, count on in the objects around them. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { matches, type Selector } from "./network-policies.ts";
import { variants } from "./overlays.ts";
import { describeRendered, ofKind } from "./render.ts";

interface Command {
  readonly exec?: { readonly command: readonly string[] };
  readonly periodSeconds?: number;
  readonly failureThreshold?: number;
}
interface Spread {
  readonly topologyKey: string;
  readonly whenUnsatisfiable?: string;
  readonly labelSelector: Selector;
}
interface StatefulSet {
  readonly spec: {
    readonly replicas: number;
    readonly serviceName: string;
    readonly podManagementPolicy?: string;
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly affinity?: {
          readonly podAntiAffinity: {
            readonly preferredDuringSchedulingIgnoredDuringExecution: readonly {
              readonly podAffinityTerm: Spread;
            }[];
          };
        };
        readonly topologySpreadConstraints?: readonly Spread[];
        readonly containers: readonly [
          {
            readonly command: readonly string[];
            readonly startupProbe: Command;
            readonly livenessProbe: Command;
            readonly readinessProbe: Command;
            readonly lifecycle?: { readonly preStop: Command };
          },
        ];
      };
    };
    readonly volumeClaimTemplates: readonly object[];
  };
}
interface Data {
  readonly data: Readonly<Record<string, string>>;
}
interface Headless {
  readonly spec: { readonly publishNotReadyAddresses?: boolean };
}
interface Budget {
  readonly spec: { readonly maxUnavailable: number; readonly selector: Selector };
}

const NODE = "kubernetes.io/hostname";
const scripts = new URL("../../k8s/redis/", import.meta.url);
const seconds = (file: string, pattern: RegExp): number =>
  Number(pattern.exec(readFileSync(new URL(file, scripts), "utf8"))?.[1]);

for (const [name, variant] of Object.entries(variants)) {
  describeRendered(`in ${name}`, () => {
    const objects = variant.render();
    const sets = ofKind<StatefulSet>(objects, "apps/v1", "StatefulSet");
    const set = (wanted: string) => sets.find(({ metadata }) => metadata.name === wanted)?.spec;
    const quorate = ["redis", "sentinel"].flatMap((one) => set(one) ?? []);
    const configMaps = ofKind<Data>(objects, "v1", "ConfigMap");
    const files = configMaps.find(({ metadata }) => metadata.name.startsWith("redis-files-"))?.data ?? {};
    const isCluster = name.endsWith("with redis-cluster");

    test("there are enough of Redis and of the Sentinels for one to be away, and never more than one is taken away", () => {
      expect([set("redis")?.replicas, set("sentinel")?.replicas]).toEqual(
        isCluster ? [6, undefined] : [3, 3],
      );
      for (const { template } of quorate) {
        const own = ofKind<Budget>(objects, "policy/v1", "PodDisruptionBudget").filter(({ spec }) =>
          matches(spec.selector, template.metadata.labels),
        );
        expect(own.map(({ spec }) => spec.maxUnavailable)).toEqual([1]);
      }
    });

    test("they start together and know each other's names before anybody is ready: each waits for the others", () => {
      for (const { podManagementPolicy, serviceName } of quorate) {
        expect(podManagementPolicy).toBe("Parallel");
        const service = ofKind<Headless>(objects, "v1", "Service").find(
          ({ metadata }) => metadata.name === serviceName,
        );
        expect(service?.spec.publishNotReadyAddresses).toBe(true);
      }
    });

    test("every script that is run is there, and every probe asks what probe.sh knows", () => {
      const questions = [...(files["probe.sh"] ?? "").matchAll(/^ {2}(\w+)\) /gm)].map(([, word]) => word);
      expect(questions).toEqual(["alive", "ready", "asked"]);
      for (const { template } of quorate) {
        const [{ command, startupProbe, livenessProbe, readinessProbe, lifecycle }] =
          template.spec.containers;
        const probes = [startupProbe, livenessProbe, readinessProbe].map(
          (probe) => probe.exec?.command ?? [],
        );
        const stop = lifecycle?.preStop.exec?.command;
        for (const [shell, path = ""] of [command, ...probes, ...(stop === undefined ? [] : [stop])])
          expect([shell, Object.keys(files)]).toEqual([
            "sh",
            expect.arrayContaining([path.replace("/etc/redis/", "")]),
          ]);
        for (const [, path, question] of probes)
          expect([path, questions]).toEqual(["/etc/redis/probe.sh", expect.arrayContaining([question])]);
      }
    });

    test("a Redis that is stopped hands over first, and has the time for that and for its replicas", () => {
      const { template } = set("redis") as StatefulSet["spec"];
      const [{ command, lifecycle, startupProbe }] = template.spec.containers;
      const stop = lifecycle?.preStop.exec?.command[1] ?? "";
      expect(stop).toMatch(isCluster ? /\/stop-cluster\.sh$/ : /\/stop-redis\.sh$/);
      const script = files[stop.replace("/etc/redis/", "")] ?? "";
      const settingOf = (variable = "") => new RegExp(`^${variable}=(\\d+)$`, "m").exec(script)?.[1];
      const bounds = [...script.matchAll(/until_true (?:(\d+)|"\$(\w+)")/g)].map(([, bound, variable]) =>
        Number(bound ?? settingOf(variable)),
      );
      expect(bounds.length).toBeGreaterThan(0);
      const longest = bounds.reduce(
        (sum, bound) => sum + bound,
        seconds("redis.conf", /^shutdown-timeout (\d+)$/m),
      );
      // With room to spare: a node that does not answer is asked for 2 s.
      expect(template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(1.25 * longest);
      const start = files[command[1]?.replace("/etc/redis/", "") ?? ""] ?? "";
      const waits = [...start.matchAll(/^(?:PATIENCE|GRACE)=(\d+)$/gm)].map(([, bound]) => Number(bound));
      expect(waits.length).toBeGreaterThan(0);
      const { periodSeconds = 10, failureThreshold = 3 } = startupProbe;
      // It ends by itself, which is seen; being killed before would look like a crash.
      expect(periodSeconds * failureThreshold).toBeGreaterThan(Math.max(...waits));
    });

    test("no two of a kind share a machine where that can be helped, and in the large overlay never", () => {
      for (const { template } of quorate) {
        const { affinity, topologySpreadConstraints = [] } = template.spec;
        const apart = affinity?.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution ?? [];
        const all = [...apart.map(({ podAffinityTerm }) => podAffinityTerm), ...topologySpreadConstraints];
        for (const { labelSelector } of all)
          expect(matches(labelSelector, template.metadata.labels)).toBe(true);
        expect(apart.map(({ podAffinityTerm }) => podAffinityTerm.topologyKey)).toEqual([NODE]);
        expect(
          topologySpreadConstraints.map(({ topologyKey, whenUnsatisfiable }) => [
            topologyKey,
            whenUnsatisfiable,
          ]),
        ).toEqual(
          name.startsWith("k8s/overlays/prod")
            ? [
                [NODE, "DoNotSchedule"],
                ["topology.kubernetes.io/zone", "ScheduleAnyway"],
              ]
            : [],
        );
      }
    });

    test("what cannot share its data is one, and everything that holds data has a volume of its own", () => {
      for (const one of ["loki", "prometheus"]) expect([one, set(one)?.replicas]).toEqual([one, 1]);
      for (const { metadata, spec } of sets)
        expect([metadata.name, spec.volumeClaimTemplates.length]).toEqual([metadata.name, 1]);
    });

    test("the namespace takes only pods of the strictest profile", () => {
      const [namespace] = ofKind(objects, "v1", "Namespace");
      expect(namespace?.metadata.labels?.["pod-security.kubernetes.io/enforce"]).toBe("restricted");
    });

    test("Grafana asks for a password, and a tenant's data source is that tenant's", () => {
      const text = JSON.stringify(ofKind(objects, "apps/v1", "Deployment"));
      for (const variable of ["GF_AUTH_ANONYMOUS_ENABLED", "GF_USERS_ALLOW_SIGN_UP"])
        expect(text).toContain(`{"name":"${variable}","value":"false"}`);
      const provisioned = configMaps.find(({ metadata }) => metadata.name.startsWith("grafana-datasources-"));
      const sources = Object.entries(provisioned?.data ?? {}).flatMap(([file, content]) =>
        parse(content).datasources.map((source: object) => ({ file, ...source })),
      );
      expect(sources.filter(({ isDefault }) => isDefault).map(({ uid }) => uid)).toEqual(["prometheus"]);
      for (const { file, type, ...source } of sources.filter((one) => one.type !== "prometheus")) {
        const tenant = file.replace(".yaml", "");
        expect([type, source]).toEqual([
          "loki",
          {
            name: `Audit trail of ${tenant}`,
            uid: `loki-${tenant}`,
            url: "http://loki:3100",
            jsonData: { httpHeaderName1: "X-Scope-OrgID" },
            secureJsonData: { httpHeaderValue1: tenant },
          },
        ]);
      }
    });
  });
}
