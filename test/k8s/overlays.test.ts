/** What `kubectl apply -k` sends: everything that it names exists, and nothing is forgotten. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { environment, parseRedisConfig } from "../../shared/config.ts";
import { clusterSecrets } from "../../shared/node/dev/cluster-secrets.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { matches } from "./network-policies.ts";
import { variants } from "./overlays.ts";
import { containersOf, dataOf, type Pod, podsOf } from "./pods.ts";
import { describeRendered, type Manifest, ofKind } from "./render.ts";

interface Data {
  readonly data: Readonly<Record<string, string>>;
}
interface Service {
  readonly spec: {
    readonly clusterIP?: string;
    readonly selector: Readonly<Record<string, string>>;
    readonly ports: readonly { readonly port: number; readonly targetPort: number | string }[];
  };
}
interface Selecting {
  readonly spec: { readonly selector: { readonly matchLabels: Readonly<Record<string, string>> } };
}
interface StatefulSet extends Selecting {
  readonly spec: Selecting["spec"] & { readonly replicas: number; readonly serviceName: string };
}
interface Binding {
  readonly roleRef: { readonly kind: string; readonly name: string };
  readonly subjects: readonly { readonly name: string; readonly namespace: string }[];
}
interface Role {
  readonly rules: readonly Readonly<Record<"resources" | "verbs", readonly string[]>>[];
}

/** Made by `npm run secrets`, and by operators as the component that names them tells. */
const made = clusterSecrets(await makeSecrets("k2026")).map(
  ({ metadata, stringData }) => [metadata.name, Object.keys(stringData)] as const,
);
const byHand: Readonly<Record<string, readonly string[]>> = {
  "redis-tls": ["tls.crt", "tls.key", "ca.crt"],
  "loki-s3": [
    "LOKI_S3_BUCKET",
    "LOKI_S3_ENDPOINT",
    "LOKI_S3_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
  ],
};
const secrets: Readonly<Record<string, readonly string[] | undefined>> = {
  ...Object.fromEntries(made),
  ...byHand,
};
const configMapsByHand: Readonly<Record<string, Data["data"]>> = { "redis-ca": { REDIS_TLS_CA: "" } };
const root = new URL("../../", import.meta.url);
const OURS = "latchkey";

/** Every `<host>:<port>` inside the namespace that a text names. */
const addressesIn = (text: string): string[] =>
  [...text.matchAll(/(?<![\w.$-])([a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)?):(\d{2,5})(?!\d)/g)]
    .map(([address]) => address)
    .filter((address) => !address.startsWith("localhost:"));

for (const [name, variant] of Object.entries(variants)) {
  describeRendered(name, () => {
    const objects = variant.render();
    const pods = podsOf(objects);
    const configMaps = new Map(
      ofKind<Data>(objects, "v1", "ConfigMap").map(({ metadata, data }) => [metadata.name, data]),
    );
    const services = ofKind<Service>(objects, "v1", "Service");
    const statefulSets = ofKind<StatefulSet>(objects, "apps/v1", "StatefulSet");
    const selected = (selector: Readonly<Record<string, string>>) =>
      pods.filter(({ labels }) => matches({ matchLabels: selector }, labels));
    const names = (apiVersion: string, kind: string, namespace = OURS) =>
      ofKind(objects, apiVersion, kind)
        .filter(({ metadata }) => metadata.namespace === namespace)
        .map(({ metadata }) => metadata.name);

    test("every ConfigMap and Secret that a pod names is there, with the key that it wants", () => {
      const wanted = pods.flatMap((pod) => dataOf(pod).map((one) => [pod.of, ...one] as const));
      const missing = wanted.filter(([, kind, data, key]) => {
        const keys =
          kind === "Secret"
            ? secrets[data]
            : Object.keys(configMaps.get(data) ?? configMapsByHand[data] ?? {});
        return keys === undefined || keys.length === 0 || (key !== "" && !keys.includes(key));
      });
      expect(missing).toEqual([]);
      expect(wanted.length).toBeGreaterThan(40);
      // And none is sent that nobody wants.
      const used = new Set(wanted.map(([, , data]) => data));
      expect([...configMaps.keys()].filter((data) => !used.has(data))).toEqual([]);
    });

    test("every mount has its volume, and every volume of a pod is mounted", () => {
      for (const pod of pods) {
        const there = [...(pod.spec.volumes ?? []).map((volume) => volume.name), ...pod.claims].sort();
        const mounted = containersOf(pod).flatMap(({ volumeMounts = [] }) =>
          volumeMounts.map((one) => one.name),
        );
        expect([pod.of, [...new Set(mounted)].sort()]).toEqual([pod.of, there]);
      }
    });

    test("every Service finds pods that listen on its ports", () => {
      for (const { metadata, spec } of services) {
        const found = selected(spec.selector);
        expect([metadata.name, found.length]).not.toEqual([metadata.name, 0]);
        for (const { targetPort } of spec.ports) {
          const known = found.filter(({ ports }) =>
            typeof targetPort === "string" ? targetPort in ports : Object.values(ports).includes(targetPort),
          );
          expect([metadata.name, targetPort, known.length]).toEqual([
            metadata.name,
            targetPort,
            found.length,
          ]);
        }
      }
    });

    test("every address in a configuration is one of a Service, or of a pod that a StatefulSet makes", () => {
      const resolves = (address: string) => {
        const [host = "", port] = address.split(":");
        const [first = "", second] = host.split(".");
        const service = services.find(({ metadata }) => metadata.name === (second ?? first));
        if (service === undefined || !service.spec.ports.some((one) => String(one.port) === port))
          return false;
        if (second === undefined) return true;
        return statefulSets.some(
          ({ metadata, spec }) =>
            spec.serviceName === second &&
            service.spec.clusterIP === "None" &&
            Array.from({ length: spec.replicas }, (_, at) => `${metadata.name}-${at}`).includes(first),
        );
      };
      const texts = [...configMaps].filter(([data]) =>
        /^(latchkey|redis-topology|grafana-datasources|prometheus-config)/.test(data),
      );
      const addresses = texts.flatMap(([, data]) =>
        Object.values(data)
          .map((text) => text.replaceAll(/^ *#.*$/gm, ""))
          .flatMap(addressesIn),
      );
      expect(addresses.filter((address) => !resolves(address))).toEqual([]);
      expect(addresses.length).toBeGreaterThan(8);
    });

    test("every StatefulSet has the Service that names its pods, and functions know every Redis and every Sentinel", () => {
      for (const { metadata, spec } of statefulSets) {
        const service = services.find((one) => one.metadata.name === spec.serviceName);
        expect([metadata.name, service?.spec.clusterIP]).toEqual([metadata.name, "None"]);
        expect(matches({ matchLabels: service?.spec.selector ?? {} }, spec.selector.matchLabels)).toBe(true);
      }
      const replicas = (workload: string) =>
        statefulSets.find(({ metadata }) => metadata.name === workload)?.spec.replicas;
      const [topology] = [...configMaps]
        .filter(([one]) => one.startsWith("redis-topology-"))
        .map(([, all]) => all);
      expect(topology?.["REDIS_NODES"]?.split(",")).toHaveLength(replicas("redis") ?? 0);
      // A Redis Cluster has none.
      expect(topology?.["REDIS_SENTINELS"]?.split(",").length).toBe(replicas("sentinel"));
    });

    test("every ServiceAccount and Role that is named is there, and may find pods and nothing else", () => {
      for (const { of, spec } of pods) {
        const { serviceAccountName } = spec;
        if (serviceAccountName !== undefined)
          expect([of, names("v1", "ServiceAccount")]).toEqual([
            of,
            expect.arrayContaining([serviceAccountName]),
          ]);
      }
      const rbac = "rbac.authorization.k8s.io/v1";
      for (const { metadata, roleRef, subjects } of ofKind<Binding>(objects, rbac, "RoleBinding")) {
        expect([roleRef.kind, names(rbac, "Role", metadata.namespace)]).toEqual(["Role", [roleRef.name]]);
        for (const { name: subject, namespace } of subjects)
          expect(names("v1", "ServiceAccount", namespace)).toContain(subject);
      }
      const rules = ofKind<Role>(objects, rbac, "Role").flatMap((role) => role.rules);
      expect(rules.length).toBeGreaterThan(0);
      for (const rule of rules) {
        expect(rule).toEqual({ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] });
      }
      expect(ofKind(objects, rbac, "ClusterRole")).toEqual([]);
    });

    test("every PodDisruptionBudget and every selector of a workload matches its pods", () => {
      const budgets = ofKind<Selecting>(objects, "policy/v1", "PodDisruptionBudget");
      expect(budgets.length).toBeGreaterThan(0);
      for (const { spec } of budgets) expect(selected(spec.selector.matchLabels)).toHaveLength(1);
      for (const kind of ["StatefulSet", "Deployment"]) {
        for (const one of ofKind<Selecting>(objects, "apps/v1", kind)) {
          expect(selected(one.spec.selector.matchLabels).map(({ of }) => of)).toEqual([
            `${kind} ${one.metadata.name}`,
          ]);
        }
      }
    });

    test("every variable in latchkey-config is one that functions know", () => {
      const [data] = [...configMaps]
        .filter(([one]) => one.startsWith("latchkey-config-"))
        .map(([, all]) => all);
      expect(Object.keys(data ?? {}).filter((variable) => !(variable in environment.shape))).toEqual([]);
      expect(Object.keys(data ?? {}).length).toBeGreaterThan(3);
    });

    test("operators' commands find Redis with what the pod `admin` gets", () => {
      const admin = pods.find((pod) => pod.name === "admin") as Pod;
      const env = Object.assign(
        {},
        ...dataOf(admin).map(([kind, data]) =>
          kind === "ConfigMap"
            ? configMaps.get(data)
            : Object.fromEntries((secrets[data] ?? []).map((key) => [key, "x"])),
        ),
      );
      expect(() => parseRedisConfig(env)).not.toThrow();
      expect(env).toMatchObject({ REDIS_PASSWORD: "x" });
    });

    test("Prometheus lets go of what is old before its volume is full", () => {
      const prometheus = statefulSets.find(({ metadata }) => metadata.name === "prometheus");
      const text = JSON.stringify(prometheus);
      const [, kept, unit] = /retention\.size=(\d+)(MB|GB)/.exec(text) ?? [];
      const [, volume] = /"storage":"(\d+)Gi"/.exec(text) ?? [];
      // Prometheus counts in powers of two; its write-ahead log comes on top.
      const gibibytes = Number(kept) / (unit === "MB" ? 1024 : 1);
      expect(gibibytes).toBeGreaterThan(0);
      expect(gibibytes).toBeLessThanOrEqual(0.8 * Number(volume));
    });

    test("the namespace comes first", () => {
      expect(objects[0]).toMatchObject({ kind: "Namespace", metadata: { name: OURS } });
    });

    test("whatever Prometheus looks for it may find", () => {
      const text = [...configMaps].find(([one]) => one.startsWith("prometheus-config"))?.[1][
        "prometheus.yml"
      ];
      const { scrape_configs } = parse(text ?? "") as {
        scrape_configs: { kubernetes_sd_configs?: { role: string; namespaces: { names: string[] } }[] }[];
      };
      const found = scrape_configs.flatMap((one) => one.kubernetes_sd_configs ?? []);
      const allowed = ofKind<Role>(objects, "rbac.authorization.k8s.io/v1", "Role").map(
        ({ metadata }) => metadata.namespace,
      );
      expect(new Set(found.map(({ role }) => role))).toEqual(new Set(["pod"]));
      expect(new Set(found.flatMap(({ namespaces }) => namespaces.names))).toEqual(new Set(allowed));
    });

    test("every dashboard, rule and configuration file of the repository is in it, unchanged", () => {
      const shipped = new Map([...configMaps.values()].flatMap((data) => Object.entries(data)));
      const files = [
        ...["k8s/grafana/dashboards/", "k8s/prometheus/rules/"].flatMap((folder) =>
          readdirSync(new URL(folder, root)).map((file) => [file, `${folder}${file}`] as const),
        ),
        ["loki.yaml", "k8s/loki/loki.yaml"],
        ["prometheus.yml", "k8s/prometheus/prometheus.yml"],
      ] as const;
      expect(files.length).toBeGreaterThanOrEqual(6);
      for (const [file, path] of files)
        expect([path, shipped.get(file)]).toEqual([path, readFileSync(new URL(path, root), "utf8")]);
    });

    test("no object is larger than the annotation in which kubectl apply keeps it", () => {
      const sizes = objects.map(
        (one) => [`${one.kind} ${one.metadata.name}`, JSON.stringify(one).length] as const,
      );
      expect(sizes.filter(([, bytes]) => bytes > 262_144 - 4_096)).toEqual([]);
    });

    test("nothing is sent twice, and outside of its namespace only what the documentation names", () => {
      const keys = objects.map((one: Manifest) =>
        [one.apiVersion.split("/")[0], one.kind, one.metadata.namespace, one.metadata.name].join(" "),
      );
      expect(keys.filter((key, at) => keys.indexOf(key) !== at)).toEqual([]);
      const elsewhere = objects
        .filter(({ kind, metadata }) => kind !== "Namespace" && metadata.namespace !== OURS)
        .map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
      const documented = readFileSync(new URL("k8s/README.md", root), "utf8");
      expect(elsewhere.filter((one) => !documented.includes(`\`${one}\``))).toEqual([]);
    });
  });
}
