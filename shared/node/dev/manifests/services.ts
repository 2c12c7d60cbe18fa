/** knative/services.yaml: a Knative Service for each function, and of it only what differs from the others. */
import type { Services } from "../../../function.ts";
import { type Endpoint, eventRoutes, type Route, routes } from "../../../routes.ts";
import type { Scaling } from "../../../scaling.ts";
import { functionIds, loadFunctions } from "../../functions.ts";

const publicRoutes: readonly Route[] = routes;

interface Variable {
  readonly name: string;
  readonly valueFrom: Readonly<Record<string, { readonly name: string; readonly key: string }>>;
}

const SIGNING_KEY: Variable = {
  name: "LATCHKEY_JWT_PRIVATE_KEY",
  valueFrom: { secretKeyRef: { name: "latchkey-jwt", key: "LATCHKEY_JWT_PRIVATE_KEY" } },
};
const LOKI: Variable = {
  name: "LOKI_URL",
  valueFrom: { configMapKeyRef: { name: "latchkey-loki", key: "LOKI_URL" } },
};

/** What is not for everybody: the key for those who sign tokens, Loki for those who write to it or read the trail. */
function variablesFor(id: string, needs: readonly (keyof Services)[]): Variable[] {
  const readsTrail = publicRoutes.some((route) => route.id === id && route.permission === "audit:read");
  return [
    ...(needs.includes("issueToken") ? [SIGNING_KEY] : []),
    ...(needs.includes("shipper") || readsTrail ? [LOKI] : []),
  ];
}

/** A Service for each function. One that stands in both route tables is one all the same. */
export const knativeServices = (): Promise<object[]> =>
  Promise.all(
    functionIds.map(async (id) => {
      const { scaling } = [...publicRoutes, ...eventRoutes].find((row) => row.id === id) as Endpoint;
      const needs = (await loadFunctions(id))?.flatMap((one) => one.needs) ?? [];
      return service(id, scaling, variablesFor(id, needs));
    }),
  );

function service(id: string, scaling: Scaling, env: readonly Variable[]): object {
  // Whoever does what a caller asked for leaves an audit entry, and publishes it; so does audit-relay with those of others.
  const publishes = publicRoutes.some((route) => route.id === id);
  return {
    apiVersion: "serving.knative.dev/v1",
    kind: "Service",
    metadata: {
      name: id,
      labels: {
        "app.kubernetes.io/name": id,
        ...(publishes ? { "latchkey.dev/publishes": "audit" } : {}),
      },
    },
    spec: {
      template: {
        metadata: {
          annotations: {
            "autoscaling.knative.dev/max-scale": String(scaling.maxPods),
            "autoscaling.knative.dev/scale-to-zero-pod-retention-period": `${scaling.idleSeconds}s`,
          },
        },
        spec: {
          containerConcurrency: scaling.concurrency,
          timeoutSeconds: scaling.timeoutSeconds,
          containers: [
            {
              args: [id],
              ...(env.length > 0 ? { env } : {}),
              resources: {
                requests: { cpu: `${scaling.cpuMillicores}m`, memory: `${scaling.memoryMiB}Mi` },
                limits: { memory: `${scaling.memoryLimitMiB}Mi` },
              },
            },
          ],
        },
      },
    },
  };
}
