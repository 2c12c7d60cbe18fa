/** What `kubectl apply -k` sends: everything that it names exists, and every pod is as careful as the strictest profile asks. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { environment, parseRedisConfig } from "../../shared/config.ts";
import { clusterSecrets } from "../../shared/node/dev/cluster-secrets.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { matches } from "./network-policies.ts";
import { imagesOf, overlays, renderWith, variants } from "./overlays.ts";
import { containersOf, type Pod, podsOf } from "./pods.ts";
import { describeRendered, type Manifest, ofKind, render, renderOnTop } from "./render.ts";

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

/** ConfigMaps and Secrets that a pod names, each with the key that it wants; "" stands for all of it. */
function dataOf(pod: Pod): (readonly ["ConfigMap" | "Secret", name: string, key: string])[] {
  const fromContainers = containersOf(pod).flatMap(({ env = [], envFrom = [] }) => [
    ...envFrom.map(({ configMapRef, secretRef }) =>
      configMapRef
        ? (["ConfigMap", configMapRef.name, ""] as const)
        : (["Secret", secretRef?.name ?? "", ""] as const),
    ),
    ...env.flatMap(({ valueFrom: { configMapKeyRef, secretKeyRef } = {} }) => [
      ...(configMapKeyRef ? [["ConfigMap", configMapKeyRef.name, configMapKeyRef.key] as const] : []),
      ...(secretKeyRef ? [["Secret", secretKeyRef.name, secretKeyRef.key] as const] : []),
    ]),
  ]);
  const fromVolumes = (pod.spec.volumes ?? []).flatMap(({ configMap, secret, projected }) => [
    ...(configMap ? [["ConfigMap", configMap.name, ""] as const] : []),
    ...(secret ? [["Secret", secret.secretName, ""] as const] : []),
    ...(projected?.sources ?? []).flatMap((source) => [
      ...(source.configMap ? [["ConfigMap", source.configMap.name, ""] as const] : []),
      ...(source.secret ? [["Secret", source.secret.name, ""] as const] : []),
    ]),
  ]);
  return [...fromContainers, ...fromVolumes];
}

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

    test("every StatefulSet has the Service that names its pods, and all Sentinels are known", () => {
      for (const { metadata, spec } of statefulSets) {
        const service = services.find((one) => one.metadata.name === spec.serviceName);
        expect([metadata.name, service?.spec.clusterIP]).toEqual([metadata.name, "None"]);
        expect(matches({ matchLabels: service?.spec.selector ?? {} }, spec.selector.matchLabels)).toBe(true);
      }
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

    test("every image stands in the list of the overlay, or of the component that brings it, with a tag that is not `latest`", () => {
      const images = variant.folders.flatMap(imagesOf);
      const known = images.map(({ newName, newTag }) => `${newName}:${newTag}`);
      const used = new Set(pods.flatMap((pod) => containersOf(pod).map(({ image }) => image)));
      expect([...used].sort()).toEqual(known.sort());
      for (const { newName, newTag } of images) {
        expect(newTag).toMatch(/^v?\d+\.\d+\.\d+/);
        // A name without a registry is a different image in every cluster.
        expect(newName).toMatch(/^[\w.-]+\.[\w.-]+\//);
      }
    });

    test("no secret is in it", () => {
      expect(ofKind(objects, "v1", "Secret")).toEqual([]);
      const literal = pods.flatMap((pod) =>
        containersOf(pod).flatMap(({ env = [] }) =>
          env.filter(
            ({ name: variable, value }) =>
              value !== undefined && /PASSWORD|SECRET|PEPPER|PRIVATE|TOKEN/.test(variable),
          ),
        ),
      );
      expect(literal).toEqual([]);
      const text = JSON.stringify(objects);
      expect(text).not.toMatch(/PRIVATE KEY|lk_(live|test)_\w{10}|[^$]\bpassword: *\w/);
    });

    test("every pod keeps the profile `restricted`, with a root file system that nobody can write to", () => {
      for (const pod of pods) {
        const { securityContext = {}, ...spec } = pod.spec;
        expect([pod.of, Object.keys(spec).filter((key) => /^host/.test(key))]).toEqual([pod.of, []]);
        const kinds = (spec.volumes ?? []).flatMap(({ name: _, ...source }) => Object.keys(source));
        expect(kinds.filter((kind) => !/^(configMap|secret|projected|emptyDir)$/.test(kind))).toEqual([]);
        for (const { securityContext: own = {} } of containersOf(pod)) {
          expect([pod.of, { ...securityContext, ...own }]).toEqual([
            pod.of,
            expect.objectContaining({
              runAsNonRoot: true,
              seccompProfile: { type: "RuntimeDefault" },
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ["ALL"] },
            }),
          ]);
          expect({ ...securityContext, ...own }).not.toMatchObject({ runAsUser: 0 });
        }
      }
    });

    test("no pod gets a token of the API server but Prometheus, and none the addresses of Services as variables", () => {
      for (const { of, name: pod, spec } of pods) {
        expect([of, spec.automountServiceAccountToken]).toEqual([of, pod === "prometheus"]);
        expect([of, spec.enableServiceLinks]).toEqual([of, false]);
      }
    });

    test("every container reserves CPU and memory, has a bound of memory and none of CPU", () => {
      for (const pod of pods) {
        for (const { resources } of containersOf(pod)) {
          expect([pod.of, resources]).toEqual([
            pod.of,
            {
              requests: {
                cpu: expect.stringMatching(/^\d+m?$/),
                memory: expect.stringMatching(/^\d+[MG]i$/),
              },
              limits: { memory: expect.stringMatching(/^\d+[MG]i$/) },
            },
          ]);
        }
      }
    });

    test("every container is asked whether it is alive and ready, on a port that it has", () => {
      for (const pod of pods.filter(({ name: one }) => one !== "admin")) {
        for (const { readinessProbe, livenessProbe, startupProbe } of pod.spec.containers) {
          expect([pod.of, readinessProbe, livenessProbe]).toEqual([
            pod.of,
            expect.anything(),
            expect.anything(),
          ]);
          for (const probe of [readinessProbe, livenessProbe, startupProbe]) {
            const port = probe?.httpGet?.port;
            if (typeof port === "string")
              expect([pod.of, Object.keys(pod.ports)]).toEqual([pod.of, expect.arrayContaining([port])]);
          }
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

describeRendered("an operator's own setting", () => {
  test("makes new revisions of the functions, and leaves everything that holds data as it is", () => {
    const before = render("k8s/overlays/dev");
    const after = renderOnTop({
      resources: ["k8s/overlays/dev"],
      configMapGenerator: [
        {
          name: "latchkey-config",
          namespace: OURS,
          behavior: "merge",
          literals: ["LATCHKEY_LOG_LEVEL=warn"],
        },
      ],
    });
    const texts = new Set(before.map((one) => JSON.stringify(one)));
    const changed = after.filter((one) => !texts.has(JSON.stringify(one)));
    const functions = ofKind(before, "serving.knative.dev/v1", "Service").length;
    expect(changed.map(({ kind }) => kind).sort()).toEqual(
      ["ConfigMap", "Deployment", ...Array(functions).fill("Service")].sort(),
    );
    expect(changed.find(({ kind }) => kind === "Deployment")?.metadata.name).toBe("admin");
  });
});

describeRendered("the Gateway", () => {
  interface Gateway {
    readonly spec: { readonly listeners: readonly Readonly<Record<string, unknown>>[] };
  }
  const listenersOf = (overlay: (typeof overlays)[number]) =>
    ofKind<Gateway>(render(overlay), "gateway.networking.k8s.io/v1", "Gateway").flatMap(
      ({ spec }) => spec.listeners,
    );

  test("answers HTTPS and nothing else in k8s/overlays/prod", () => {
    expect(listenersOf("k8s/overlays/prod")).toEqual([
      expect.objectContaining({
        protocol: "HTTPS",
        port: 443,
        tls: { certificateRefs: [{ name: "latchkey-tls" }] },
      }),
    ]);
  });

  test("is gone with the component nginx-gateway, for a cluster that does not know Gateway API", () => {
    const objects = renderWith("k8s/overlays/dev", "nginx-gateway");
    expect(objects.filter(({ apiVersion }) => apiVersion.startsWith("gateway.networking"))).toEqual([]);
    expect(objects.length).toBeGreaterThan(60);
  });

  test("takes routes of its own namespace only, in both", () => {
    for (const overlay of overlays) {
      for (const { allowedRoutes } of listenersOf(overlay))
        expect(allowedRoutes).toEqual({ namespaces: { from: "Same" } });
    }
  });
});
