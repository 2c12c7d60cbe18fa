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
});
