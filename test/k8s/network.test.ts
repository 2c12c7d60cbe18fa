/** Who reaches whom: every pair of pods, those of Knative included, is let through where it is needed and nowhere else. */
import { expect, test } from "vitest";
import { createNetwork, type End, matches } from "./network-policies.ts";
import { overlays, renderWith } from "./overlays.ts";
import { type Pod, podsOf } from "./pods.ts";
import { describeRendered, type Manifest, ofKind, render } from "./render.ts";

/** Of the Gateway: its implementation makes it, in our namespace. */
const gateway: Pod = {
  of: "Gateway latchkey",
  name: "gateway",
  namespace: "latchkey",
  labels: { "gateway.networking.k8s.io/gateway-name": "latchkey" },
  spec: { containers: [] },
  ports: { http: 80, https: 443, status: 15021 },
  isFunction: false,
  claims: [],
};

/** What a cluster has besides, labelled as its own manifests label it (Knative 1.22/1.23, net-kourier). */
const around: Readonly<Record<string, End>> = {
  kourier: {
    namespace: "kourier-system",
    labels: { app: "3scale-kourier-gateway" },
    ports: { "http2-external": 8080, "http2-internal": 8081, metrics: 9000 },
  },
  activator: {
    namespace: "knative-serving",
    labels: { app: "activator" },
    ports: { metrics: 9090, http1: 8012 },
  },
  autoscaler: {
    namespace: "knative-serving",
    labels: { app: "autoscaler" },
    ports: { metrics: 9090, websocket: 8080 },
  },
  "broker-ingress": {
    namespace: "knative-eventing",
    labels: { "eventing.knative.dev/brokerRole": "ingress" },
    ports: { http: 8080, https: 8443, metrics: 9092 },
  },
  "broker-filter": {
    namespace: "knative-eventing",
    labels: { "eventing.knative.dev/brokerRole": "filter" },
    ports: { http: 8080, metrics: 9092 },
  },
  istiod: { namespace: "istio-system", labels: { app: "istiod" }, ports: { xds: 15012, http: 8080 } },
  dns: { namespace: "kube-system", labels: { "k8s-app": "kube-dns" }, ports: { dns: 53 } },
  "someone in kube-system": { namespace: "kube-system", labels: {}, ports: { http: 8080 } },
  "someone in kourier-system": { namespace: "kourier-system", labels: {} },
  "someone in knative-serving": { namespace: "knative-serving", labels: {} },
  "a namesake of redis elsewhere": {
    namespace: "default",
    labels: { "app.kubernetes.io/name": "redis", "serving.knative.dev/service": "audit-ship" },
    ports: { redis: 6379 },
  },
  "someone in latchkey": { namespace: "latchkey", labels: {}, ports: { http: 8080 } },
  outside: { labels: {}, ports: { http: 80, https: 443, api: 6443, smtp: 25 } },
};
/** Ports at which every pod is tried, whether it says that it listens there or not. */
const TRIED = [22, 53, 80, 443, 3100, 6379, 8012, 8013, 8022, 8080, 8112, 9090, 9091, 9092, 16379, 26379];

/** The API server's: its address differs from cluster to cluster, so Prometheus may ask any. */
const API_PORTS = [443, 6443];

type Rule = readonly [from: readonly string[], to: readonly string[], ports: readonly number[]];
const inKnative = Object.keys(around).filter((name) =>
  /^knative-(serving|eventing)$/.test(String(around[name]?.namespace)),
);
const LOKI_USERS = ["audit-ship", "audit-list", "audit-verify"];

/** Everything that is needed. @param functions their names @param all names of all our pods */
const needed = (functions: readonly string[], all: readonly string[]): readonly Rule[] => [
  [Object.keys(around).filter((name) => name !== "someone in latchkey"), ["gateway"], [80, 443, 15021]],
  [["gateway"], ["kourier"], [8081]],
  [["gateway"], ["istiod"], [15012]],
  // Requests and events, by HTTP/1, HTTP/2 and TLS.
  [["kourier", "activator"], functions, [8012, 8013, 8112]],
  [["autoscaler"], functions, [9090]],
  [[...functions, "admin"], ["redis"], [6379]],
  [[...functions, "admin"], ["sentinel"], [26379]],
  [[...functions, "admin"], ["broker-ingress"], [8080, 8443]],
  [LOKI_USERS, ["loki"], [3100]],
  [["redis", "sentinel"], ["redis"], [6379]],
  [["redis", "sentinel"], ["sentinel"], [26379]],
  [["prometheus"], functions, [8080, 9091]],
  [["prometheus"], ["loki"], [3100]],
  [["prometheus"], ["grafana"], [3000]],
  [["prometheus"], ["kourier"], [9000]],
  // By the way to the API server.
  [["prometheus"], ["gateway"], [443]],
  // Controllers and webhooks too.
  [["prometheus"], inKnative, [9090, 9092]],
  [["grafana"], ["prometheus"], [9090]],
  [["grafana"], ["loki"], [3100]],
  [all, ["dns"], [53]],
];

/** Its nodes reach each other by a port of their own. */
const withoutSentinels = (functions: readonly string[], all: readonly string[]): readonly Rule[] => [
  ...needed(functions, all)
    .filter(([, to]) => !to.includes("sentinel"))
    .map(([from, to, ports]) => [from.filter((name) => name !== "sentinel"), to, ports] as const),
  [["redis"], ["redis"], [16379]],
];

function pathsOf(rules: readonly Rule[]): Set<string> {
  const paths = rules.flatMap(([from, to, ports]) =>
    from.flatMap((one) => to.flatMap((other) => ports.map((port) => `${one} -> ${other}:${port}`))),
  );
  return new Set(paths);
}

/** Every path that the policies leave open and that has one of our pods at either end. */
function openPaths(pods: readonly Pod[], allows: ReturnType<typeof createNetwork>["allows"]): Set<string> {
  const ours = pods.map((pod) => [pod.name, pod] as const);
  const everybody: readonly (readonly [string, End])[] = [...ours, ...Object.entries(around)];
  const names = new Set(ours.map(([name]) => name));
  const open = new Set<string>();
  for (const [from, one] of everybody) {
    for (const [to, other] of everybody) {
      if (!names.has(from) && !names.has(to)) continue;
      for (const port of new Set([...TRIED, ...Object.values(other.ports ?? {})])) {
        const isApi = from === "prometheus" && !names.has(to) && API_PORTS.includes(port);
        if (!isApi && allows(one, other, port)) open.add(`${from} -> ${to}:${port}`);
      }
    }
  }
  return open;
}

const networks: Readonly<Record<string, () => readonly Manifest[]>> = {
  ...Object.fromEntries(overlays.map((overlay) => [overlay, () => render(overlay)])),
  "a Redis Cluster": () => renderWith("k8s/overlays/dev", "redis-cluster"),
};
for (const [name, renderNetwork] of Object.entries(networks)) {
  describeRendered(`the network of ${name}`, () => {
    const objects = renderNetwork();
    const pods = [gateway, ...podsOf(objects)];
    const { allows, accepts, sends, policies } = createNetwork(objects);
    const functions = pods.filter(({ isFunction }) => isFunction).map(({ name }) => name);

    test("has exactly the paths that are needed", () => {
      const names = pods.map(({ name }) => name);
      const rules = names.includes("sentinel")
        ? needed(functions, names)
        : withoutSentinels(functions, names);
      const wanted = pathsOf(rules);
      const open = openPaths(pods, allows);
      expect({
        missing: [...wanted].filter((path) => !open.has(path)),
        superfluous: [...open].filter((path) => !wanted.has(path)),
      }).toEqual({ missing: [], superfluous: [] });
      expect(names.length).toBeGreaterThan(15);
    });

    test("is closed at both ends: no policy relies on another one that happens to be narrower", () => {
      // The whole world may call the gateway, and Prometheus the API server.
      const callees = pods.filter((pod) => pod !== gateway);
      const uneven = pods.flatMap((from) =>
        callees.flatMap((to) =>
          [...TRIED, ...Object.values(to.ports)]
            .filter((port) => !API_PORTS.includes(port) && sends(from, to, port) !== accepts(from, to, port))
            .map((port) => `${from.name} -> ${to.name}:${port}`),
        ),
      );
      expect(uneven).toEqual([]);
    });

    test("lets Prometheus ask the API server, and nobody else", () => {
      const outside = around["outside"] as End;
      const asking = pods.filter((pod) => API_PORTS.some((port) => allows(pod, outside, port)));
      expect(asking.map(({ name }) => name)).toEqual(["prometheus"]);
      expect(API_PORTS.filter((port) => allows(asking[0] as End, outside, port))).toEqual(API_PORTS);
    });

    test("lets every pod ask for names by UDP", () => {
      const dns = around["dns"] as End;
      expect(pods.filter((pod) => !allows(pod, dns, 53, "UDP")).map(({ of }) => of)).toEqual([]);
    });

    test("closes what no policy speaks of", () => {
      expect(policies.filter(({ spec }) => Object.keys(spec.podSelector).length === 0)).not.toEqual([]);
      const stranger = around["someone in latchkey"] as End;
      expect(allows(stranger, stranger, 80)).toBe(false);
    });

    test("has no policy that selects nobody, and none that names nobody of ours", () => {
      const own = policies.filter(({ metadata }) => metadata.namespace === "latchkey");
      const idle = own.filter(({ spec }) => !pods.some(({ labels }) => matches(spec.podSelector, labels)));
      expect(idle.map(({ metadata }) => metadata.name)).toEqual([]);
      const unknown = own.flatMap(({ spec }) =>
        [...(spec.ingress ?? []), ...(spec.egress ?? [])]
          .flatMap((rule) => rule.from ?? rule.to ?? [])
          .filter(
            ({ podSelector, namespaceSelector, ipBlock }) =>
              ipBlock === undefined &&
              namespaceSelector === undefined &&
              !pods.some(({ labels }) => matches(podSelector ?? {}, labels)),
          ),
      );
      expect(unknown).toEqual([]);
    });
  });
}

describeRendered("the component s3-loki", () => {
  const objects = renderWith("k8s/overlays/prod", "s3-loki");
  const loki = podsOf(objects).find(({ name }) => name === "loki") as Pod;
  const { allows } = createNetwork(objects);

  test("lets Loki reach HTTPS outside, and nobody else", () => {
    const outside = around["outside"] as End;
    const reaching = podsOf(objects).filter((pod) => allows(pod, outside, 443));
    expect(reaching.map(({ name }) => name).sort()).toEqual(["loki", "prometheus"]);
    expect(allows(loki, outside, 80)).toBe(false);
  });
});

describeRendered("the component kafka-broker", () => {
  const objects = renderWith("k8s/overlays/dev", "kafka-broker");
  const { allows } = createNetwork(objects);
  const receiver: End = { namespace: "knative-eventing", labels: { app: "kafka-broker-receiver" } };

  test("lets those who publish reach Kafka's Broker in place of the other one", () => {
    const publishers = podsOf(objects).filter(({ name, isFunction }) => isFunction || name === "admin");
    expect(publishers.length).toBeGreaterThan(10);
    expect(publishers.filter((pod) => !allows(pod, receiver, 8080))).toEqual([]);
    expect(publishers.filter((pod) => allows(pod, around["broker-ingress"] as End, 8080))).toEqual([]);
  });
});

describeRendered("the component nginx-gateway", () => {
  const objects = renderWith("k8s/overlays/dev", "nginx-gateway");
  const { allows } = createNetwork(objects);
  const nginx = podsOf(objects).find(({ name }) => name === "nginx-gateway") as Pod;

  test("is called by anybody, and calls Kourier and nobody else", () => {
    expect(allows(around["outside"] as End, nginx, 8080)).toBe(true);
    const called = Object.keys(around).flatMap((name) => {
      const other = around[name] as End;
      const ports = new Set([...TRIED, ...Object.values(other.ports ?? {})]);
      return [...ports].filter((port) => allows(nginx, other, port)).map((port) => `${name}:${port}`);
    });
    expect(called).toEqual(["kourier:8081", "dns:53"]);
    const pods = podsOf(objects).filter((pod) => [8012, 8080].some((port) => allows(nginx, pod, port)));
    expect(pods.map(({ name }) => name)).toEqual([]);
  });
});

describeRendered("the component closed-kourier", () => {
  const objects = renderWith("k8s/overlays/dev", "closed-kourier", "nginx-gateway");
  const { allows } = createNetwork(objects);
  const nginx = podsOf(objects).find(({ name }) => name === "nginx-gateway") as Pod;
  const kourier = around["kourier"] as End;
  const from = (namespace: string, namespaceLabels = {}): End => ({ namespace, namespaceLabels, labels: {} });

  test("lets Knative and the gateway call functions, and no other pod of the cluster", () => {
    expect(allows(from("knative-eventing"), kourier, 8081)).toBe(true);
    expect(allows(from("knative-serving"), kourier, 8081)).toBe(true);
    expect(allows(gateway, kourier, 8081)).toBe(true);
    expect(allows(nginx, kourier, 8081)).toBe(true);
    expect(allows(from("gateway", { "latchkey.dev/gateway": "true" }), kourier, 8081)).toBe(true);
    for (const namespace of ["default", "latchkey", "gateway"]) {
      expect([namespace, allows(from(namespace), kourier, 8081)]).toEqual([namespace, false]);
      expect([namespace, allows(from(namespace), kourier, 8444)]).toEqual([namespace, false]);
    }
  });

  test("leaves Kourier's public side as it is", () => {
    for (const port of [8080, 8443, 8090, 9000]) {
      expect([port, allows(from("default"), kourier, port)]).toEqual([port, true]);
    }
  });
});

describeRendered("without the component closed-kourier", () => {
  test("the policies of no other namespace are touched", () => {
    const namespaces = ofKind(render("k8s/overlays/dev"), "networking.k8s.io/v1", "NetworkPolicy").map(
      ({ metadata }) => metadata.namespace,
    );
    expect(new Set(namespaces)).toEqual(new Set(["latchkey"]));
  });
});
