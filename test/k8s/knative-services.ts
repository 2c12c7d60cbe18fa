/** Knative's Services as these tests read them. */
import { overlays } from "./overlays.ts";
import { type Manifest, ofKind, render } from "./render.ts";

interface Variable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: Readonly<Record<string, { readonly name: string; readonly key: string }>>;
}
interface Probe {
  readonly httpGet: { readonly path: string };
}
export interface Container {
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly Variable[];
  readonly envFrom: readonly Readonly<Record<string, { readonly name: string }>>[];
  readonly ports: readonly unknown[];
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
  readonly resources: Readonly<Record<"requests" | "limits", Readonly<Record<string, string>>>>;
  readonly securityContext: unknown;
}
export interface PodSpec {
  readonly containerConcurrency: number;
  readonly timeoutSeconds: number;
  readonly enableServiceLinks: boolean;
  readonly automountServiceAccountToken: boolean;
  readonly containers: readonly [Container];
}
export interface Service {
  readonly spec: {
    readonly template: { readonly metadata: Manifest["metadata"]; readonly spec: PodSpec };
  };
}

export const servicesOf = (objects: readonly Manifest[]): Manifest<Service>[] =>
  ofKind<Service>(objects, "serving.knative.dev/v1", "Service");
export const servicesIn = (folder: string): Manifest<Service>[] => servicesOf(render(folder));

export const podOf = (service: Manifest<Service>): PodSpec => service.spec.template.spec;
export const containerOf = (service: Manifest<Service>): Container => podOf(service).containers[0];

/** Where Services stand: alone, and in what is deployed. */
export const serviceFolders = ["knative", ...overlays];
