/** The pods that a rendered folder makes, whatever kind of object makes them. */
import { type Manifest, ofKind } from "./render.ts";

interface Named {
  readonly name: string;
}
interface Probe {
  readonly httpGet?: { readonly port: string | number; readonly path: string };
  readonly exec?: { readonly command: readonly string[] };
}
export interface Container {
  readonly name?: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: {
      readonly configMapKeyRef?: Named & { readonly key: string };
      readonly secretKeyRef?: Named & { readonly key: string };
    };
  }[];
  readonly envFrom?: readonly { readonly configMapRef?: Named; readonly secretRef?: Named }[];
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
  readonly volumeMounts?: readonly (Named & { readonly mountPath: string; readonly subPath?: string })[];
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly resources?: {
    readonly requests?: Readonly<Record<string, string>>;
    readonly limits?: Readonly<Record<string, string>>;
  };
  readonly securityContext?: Readonly<Record<string, unknown>>;
}
interface VolumeSource {
  readonly configMap?: Named;
  readonly secret?: { readonly secretName: string };
}
interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly enableServiceLinks?: boolean;
  readonly securityContext?: Readonly<Record<string, unknown>>;
  readonly volumes?: readonly (Named &
    VolumeSource & {
      readonly projected?: { readonly sources: readonly { configMap?: Named; secret?: Named }[] };
    })[];
}

export interface Pod {
  /** What makes it: `StatefulSet loki`. */
  readonly of: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: PodSpec;
  /** Where something listens, by the name of the port. */
  readonly ports: Readonly<Record<string, number>>;
  readonly isFunction: boolean;
  /** Names of claims that are made for each pod. */
  readonly claims: readonly string[];
}

interface Workload {
  readonly spec: {
    readonly template: {
      readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
      readonly spec: PodSpec;
    };
    readonly selector?: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly volumeClaimTemplates?: readonly { readonly metadata: Named }[];
  };
}

/** Where Knative's queue-proxy listens, in every function's pod (knative.dev/serving, pkg/networking/constants.go). */
const QUEUE_PROXY = {
  "queue-port": 8012,
  "queue-port-h2c": 8013,
  "https-port": 8112,
  "http-queueadm": 8022,
  "http-autometric": 9090,
  "http-usermetric": 9091,
};
const KNATIVE = "serving.knative.dev/v1";
const WORKLOADS = [
  ["apps/v1", "StatefulSet"],
  ["apps/v1", "Deployment"],
  ["apps/v1", "DaemonSet"],
  ["batch/v1", "Job"],
  [KNATIVE, "Service"],
] as const;

export function podsOf(objects: readonly Manifest[]): Pod[] {
  return WORKLOADS.flatMap(([apiVersion, kind]) =>
    ofKind<Workload>(objects, apiVersion, kind).map(({ metadata: { name, namespace = "default" }, spec }) => {
      const { metadata = {}, spec: pod } = spec.template;
      const isFunction = apiVersion === KNATIVE;
      const own = pod.containers.flatMap(({ ports = [] }) =>
        ports.map(({ name: port = "user-port", containerPort }) => [port, containerPort] as const),
      );
      return {
        of: `${kind} ${name}`,
        name,
        namespace,
        labels: { ...metadata.labels, ...(isFunction && { "serving.knative.dev/service": name }) },
        spec: pod,
        ports: { ...Object.fromEntries(own), ...(isFunction && QUEUE_PROXY) },
        isFunction,
        claims: (spec.volumeClaimTemplates ?? []).map((claim) => claim.metadata.name),
      };
    }),
  );
}

export const containersOf = ({ spec }: Pod): readonly Container[] => [
  ...(spec.initContainers ?? []),
  ...spec.containers,
];

/** ConfigMaps and Secrets that a pod names, each with the key that it wants; "" stands for all of it. */
export function dataOf(pod: Pod): (readonly ["ConfigMap" | "Secret", name: string, key: string])[] {
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
