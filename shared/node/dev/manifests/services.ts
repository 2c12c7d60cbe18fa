/** knative/services.yaml: a Knative Service for each function, and of it only what differs from the others. */
import type { Services } from "../../../function.ts";
import { type Endpoint, eventRoutes, routes } from "../../../routes.ts";
import type { Scaling } from "../../../scaling.ts";
import { functionIds, loadFunctions } from "../../functions.ts";

interface Variable {
  readonly name: string;
  readonly valueFrom: Readonly<Record<string, { readonly name: string; readonly key: string }>>;
}

const LOKI: Variable = {
  name: "LOKI_URL",
  valueFrom: { configMapKeyRef: { name: "latchkey-loki", key: "LOKI_URL" } },
};
const SIGNING_KEY: Variable = {
  name: "LATCHKEY_JWT_PRIVATE_KEY",
  valueFrom: { secretKeyRef: { name: "latchkey-jwt", key: "LATCHKEY_JWT_PRIVATE_KEY" } },
};

/** Variables that are not for everybody, by the service that reads them. */
const variables: { readonly [Name in keyof Services]?: Variable } = {
  issueToken: SIGNING_KEY,
  shipper: LOKI,
  audit: LOKI,
};

/** A Service for each function. One that stands in both route tables is one all the same. */
export const knativeServices = (): Promise<object[]> =>
  Promise.all(
    functionIds.map(async (id) => {
      const rows: readonly Endpoint[] = [...routes, ...eventRoutes];
      const { scaling } = rows.find((row) => row.id === id) as Endpoint;
      const needs = (await loadFunctions(id))?.flatMap((one) => one.needs) ?? [];
      const env = new Set(needs.flatMap((name) => variables[name] ?? []));
      return service(id, scaling, [...env]);
    }),
  );

function service(id: string, scaling: Scaling, env: readonly Variable[]): object {
  // Whoever does what a caller asked for leaves an audit entry, and publishes it; so does audit-relay with those of others.
  const publishes = routes.some((route) => route.id === id);
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
