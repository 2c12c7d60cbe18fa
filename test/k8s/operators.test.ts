/** What operators change on top of an overlay, and what the large one is strict about. */
import { expect, test } from "vitest";
import { overlays, renderWith } from "./overlays.ts";
import { describeRendered, ofKind, render, renderOnTop } from "./render.ts";

describeRendered("an operator's own setting", () => {
  test("makes new revisions of the functions, and leaves everything that holds data as it is", () => {
    const before = render("k8s/overlays/dev");
    const after = renderOnTop({
      resources: ["k8s/overlays/dev"],
      configMapGenerator: [
        {
          name: "latchkey-config",
          namespace: "latchkey",
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
