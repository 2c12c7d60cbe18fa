/** The Secrets of a cluster, as lists that kubectl takes. Nothing here is ever written to a file. */
import { randomBytes } from "node:crypto";

export const NAMESPACE = "latchkey";

export interface ClusterSecret {
  readonly apiVersion: "v1";
  readonly kind: "Secret";
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly stringData: Readonly<Record<string, string>>;
}

export const listOf = (items: readonly ClusterSecret[]): string =>
  `${JSON.stringify({ apiVersion: "v1", kind: "List", items }, undefined, 2)}\n`;

/** 256 bits in hex: nothing in it means anything to a shell, a URL or an ACL file. */
const password = (): string => randomBytes(32).toString("hex");

/**
 * Everything that the manifests refer to.
 * @param own what `makeSecrets` made
 */
export function clusterSecrets(own: Readonly<Record<string, string>>): ClusterSecret[] {
  const [atRedis, atSentinels] = [password(), password()];
  const { LATCHKEY_JWT_PRIVATE_KEY = "", ...shared } = own;
  const contents: Record<string, Record<string, string>> = {
    "latchkey-jwt": { LATCHKEY_JWT_PRIVATE_KEY },
    "latchkey-keys": shared,
    "latchkey-redis": { REDIS_PASSWORD: atRedis, REDIS_SENTINEL_PASSWORD: atSentinels },
    // Of Redis and its Sentinels, whose configuration names them; a function has its own alone.
    "redis-users": {
      LATCHKEY_PASSWORD: atRedis,
      LATCHKEY_SENTINEL_PASSWORD: atSentinels,
      REPLICA_PASSWORD: password(),
      SENTINEL_PASSWORD: password(),
      HEALTH_PASSWORD: password(),
      ADMIN_PASSWORD: password(),
    },
    "grafana-admin": {
      GF_SECURITY_ADMIN_USER: "admin",
      GF_SECURITY_ADMIN_PASSWORD: password(),
      GF_SECURITY_SECRET_KEY: password(),
    },
  };
  return Object.entries(contents).map(([name, stringData]) => ({
    apiVersion: "v1",
    kind: "Secret",
    // A uid is ignored when an object is created, and refused as a conflict when one of another uid is there. So not even
    // `kubectl apply` replaces secrets that are in use: a pepper that is overwritten takes all API keys with it.
    metadata: { name, namespace: NAMESPACE, uid: "only-when-there-is-none-yet" },
    stringData,
  }));
}
