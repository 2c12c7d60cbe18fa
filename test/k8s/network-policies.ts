/** What the NetworkPolicies of rendered manifests let through, as a network that enforces them decides. */
import { type Manifest, ofKind } from "./render.ts";

type Labels = Readonly<Record<string, string>>;
interface Requirement {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}
export interface Selector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly Requirement[];
}
interface Peer {
  readonly podSelector?: Selector;
  readonly namespaceSelector?: Selector;
  readonly ipBlock?: { readonly cidr: string };
}
interface Port {
  readonly port?: number | string;
  readonly protocol?: string;
  readonly endPort?: number;
}
interface Rule {
  readonly from?: readonly Peer[];
  readonly to?: readonly Peer[];
  readonly ports?: readonly Port[];
}
export interface Policy {
  readonly spec: {
    readonly podSelector: Selector;
    readonly policyTypes: readonly ("Ingress" | "Egress")[];
    readonly ingress?: readonly Rule[];
    readonly egress?: readonly Rule[];
  };
}

/** One end of a connection: a pod, or an address outside, which no selector matches. */
export interface End {
  readonly namespace?: string;
  readonly labels: Labels;
  /** Of its namespace, besides `kubernetes.io/metadata.name`. */
  readonly namespaceLabels?: Labels;
  readonly ports?: Readonly<Record<string, number>>;
}

/** @throws for what this does not know, so that nothing is silently taken as matching */
export function matches(
  { matchLabels = {}, matchExpressions = [], ...rest }: Selector,
  labels: Labels,
): boolean {
  if (Object.keys(rest).length > 0) throw new Error(`No such selector: ${Object.keys(rest)}`);
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      if (operator === "In") return value !== undefined && values.includes(value);
      if (operator === "NotIn") return value === undefined || !values.includes(value);
      throw new Error(`No such operator: ${operator}`);
    })
  );
}

function isPeer(
  { podSelector, namespaceSelector, ipBlock }: Peer,
  other: End,
  policyNamespace: string,
): boolean {
  // An address may be a pod's: a block is for what is outside, and never lets one in here.
  if (ipBlock !== undefined || other.namespace === undefined) return false;
  const namespace = { "kubernetes.io/metadata.name": other.namespace, ...other.namespaceLabels };
  const isNamespace =
    namespaceSelector === undefined
      ? other.namespace === policyNamespace
      : matches(namespaceSelector, namespace);
  return isNamespace && (podSelector === undefined || matches(podSelector, other.labels));
}

const isPort = (
  { port, protocol = "TCP", endPort }: Port,
  wanted: number,
  to: End,
  wantedProtocol: string,
) => {
  if (protocol !== wantedProtocol) return false;
  const first = typeof port === "string" ? to.ports?.[port] : port;
  if (port === undefined) return true;
  return first !== undefined && first <= wanted && wanted <= (endPort ?? first);
};

export function createNetwork(objects: readonly Manifest[]) {
  const policies = ofKind<Policy>(objects, "networking.k8s.io/v1", "NetworkPolicy");

  /** Whether one side's policies agree. A pod that none selects takes part in everything. */
  function agrees(
    direction: "Ingress" | "Egress",
    self: End,
    other: End,
    to: End,
    port: number,
    protocol: string,
  ) {
    const about = policies.filter(
      ({ metadata, spec }) =>
        metadata.namespace === self.namespace &&
        spec.policyTypes.includes(direction) &&
        matches(spec.podSelector, self.labels),
    );
    if (about.length === 0) return true;
    return about.some(({ metadata, spec }) =>
      ((direction === "Ingress" ? spec.ingress : spec.egress) ?? []).some((rule) => {
        const peers = direction === "Ingress" ? rule.from : rule.to;
        return (
          (peers === undefined || peers.some((peer) => isPeer(peer, other, String(metadata.namespace)))) &&
          (rule.ports === undefined || rule.ports.some((one) => isPort(one, port, to, protocol)))
        );
      }),
    );
  }

  /** Whether the policies of the one who is called agree. */
  const accepts = (from: End, to: End, port: number, protocol = "TCP"): boolean =>
    agrees("Ingress", to, from, to, port, protocol);
  /** Whether those of the caller do. */
  const sends = (from: End, to: End, port: number, protocol = "TCP"): boolean =>
    agrees("Egress", from, to, to, port, protocol);
  return {
    policies,
    accepts,
    sends,
    allows: (...path: Parameters<typeof accepts>): boolean => sends(...path) && accepts(...path),
  };
}
