/** A component changes what it is for, and nothing else. */
import { expect, test } from "vitest";
import { servicesOf } from "./knative-services.ts";
import { describeRendered, ofKind, render, renderOnTop } from "./render.ts";

describeRendered("the component", () => {
  test("warm-verify keeps a pod of what programs wait for, and of nothing else", () => {
    const objects = renderOnTop({ resources: ["knative"], components: ["k8s/components/warm-verify"] });
    const warm = servicesOf(objects).flatMap(({ metadata, spec }) => {
      const { "autoscaling.knative.dev/min-scale": least, ...others } =
        spec.template.metadata.annotations ?? {};
      expect(Object.keys(others)).toContain("autoscaling.knative.dev/max-scale");
      return least === undefined ? [] : [[metadata.name, least]];
    });
    expect(warm).toEqual(["data-create", "data-delete", "data-get", "data-update"].map((id) => [id, "1"]));
  });

  test("kafka-broker makes the Broker one of Kafka's, and leaves what is about channels behind", () => {
    const objects = renderOnTop({ resources: ["knative"], components: ["k8s/components/kafka-broker"] });
    const [broker, ...others] = ofKind<{ spec: unknown }>(objects, "eventing.knative.dev/v1", "Broker");
    expect(others).toEqual([]);
    expect(broker?.metadata).toEqual({
      name: "audit",
      namespace: "latchkey",
      annotations: { "eventing.knative.dev/broker.class": "Kafka" },
    });
    expect(broker?.spec).toEqual({
      config: {
        apiVersion: "v1",
        kind: "ConfigMap",
        name: "kafka-broker-config",
        namespace: "knative-eventing",
      },
    });
    expect(objects.length).toBe(render("knative").length);
  });

  test("envoy-gateway takes the Gateway over and leaves %2F in paths as it is", () => {
    const objects = renderOnTop({
      resources: ["k8s/gateway"],
      components: ["k8s/components/envoy-gateway"],
    });
    const [gateway] = ofKind<{ spec: { gatewayClassName: string } }>(
      objects,
      "gateway.networking.k8s.io/v1",
      "Gateway",
    );
    const [policy] = ofKind<{ spec: { targetRefs: { name: string }[]; path: unknown } }>(
      objects,
      "gateway.envoyproxy.io/v1alpha1",
      "ClientTrafficPolicy",
    );
    expect(gateway?.spec.gatewayClassName).toBe("eg");
    expect(policy?.spec.targetRefs.map(({ name }) => name)).toEqual([gateway?.metadata.name]);
    expect(policy?.spec.path).toEqual({ escapedSlashesAction: "KeepUnchanged", disableMergeSlashes: true });
  });

  test("redis-cluster leaves no Sentinel behind, and tells functions and nodes the same six names", () => {
    const objects = renderOnTop({
      resources: ["k8s/overlays/prod"],
      components: ["k8s/components/redis-cluster"],
    });
    const named = (name: string) =>
      ofKind<{ data: Record<string, string> }>(objects, "v1", "ConfigMap")
        .filter(({ metadata }) => metadata.name.startsWith(`${name}-`))
        .map(({ data }) => data)[0] ?? {};
    const functions = named("latchkey-config");
    const nodes = Array.from({ length: 6 }, (_, pod) => `redis-${pod}.redis-headless:6379`).join();
    expect(functions["REDIS_CLUSTER_NODES"]).toBe(nodes);
    expect(named("redis-topology")).toEqual({ REDIS_NODES: nodes });
    expect(Object.keys(functions).filter((name) => /SENTINEL|MASTER|REDIS_NODES|SERVICE/.test(name))).toEqual(
      [],
    );
    const others = objects.filter(({ kind }) => kind !== "ConfigMap");
    expect(others.filter((one) => JSON.stringify(one).toLowerCase().includes("sentinel"))).toEqual([]);
  });
});
