/** Where the store is and how it is reached: the variables that every process and the operators' commands share. */
import * as z from "zod";
import { listOf } from "./formats.ts";
import { secret } from "./secrets.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Addresses that one variable names at most. */
const MAX_ADDRESSES = 16;
const ADDRESS = /^(?:\[([\da-fA-F:.]{2,45})\]|([\w.-]{1,253})):(\d{1,5})$/;

const address = listOf(1, toAddress, "Expected <host>:<port>");
const addresses = listOf(
  MAX_ADDRESSES,
  toAddress,
  `Expected up to ${MAX_ADDRESSES} <host>:<port>, separated by commas`,
);

/** `[<IPv6>]:<port>` or `<host>:<port>`; undefined when it is neither. */
export function toAddress(text: string): Address | undefined {
  const [, ipv6, name, digits] = ADDRESS.exec(text) ?? [];
  const port = Number(digits);
  return port >= 1 && port <= 65_535 ? { host: ipv6 ?? (name as string), port } : undefined;
}

/** Without a query, which could change every option of ioredis. */
function isRedisUrl(text: string): boolean {
  if (text.startsWith("unix://")) return text.length > "unix://".length;
  const url = /^rediss?:\/\/[^?#]+$/.test(text) ? URL.parse(text) : null;
  return url !== null && url.hostname !== "" && !/%(?![\da-f]{2})/i.test(url.username + url.password);
}

const name = z.string().min(1).max(128);
const password = secret(z.string().min(1).max(1024));

/** Every variable with its check, default and description. */
export const redisEnvironment = z.object({
  REDIS_URL: secret(
    z
      .string()
      .refine(isRedisUrl, "Expected redis://, rediss:// or unix://, percent-encoded and without a query"),
  )
    .optional()
    .describe(
      "A single Redis. **One of** `REDIS_URL`, `REDIS_SENTINELS` and/or `REDIS_NODES`, `REDIS_CLUSTER_NODES` is needed; `npm start` starts a Redis of its own without",
    ),
  REDIS_SENTINELS: addresses
    .optional()
    .describe("Sentinels that know the master, `<host>:<port>,…`; all are asked at once"),
  REDIS_MASTER_NAME: name.default("latchkey").describe("The name under which the Sentinels know it"),
  REDIS_NODES: addresses
    .optional()
    .describe(
      "Redis pods by their stable names, `<host>:<port>,…`; tried besides whom the Sentinels name. The first that has replicas is the master; where none are asked for, the Sentinels and then this order decide",
    ),
  REDIS_SERVICE: address.optional().describe("A Service in front of them, `<host>:<port>`: tried last"),
  REDIS_CLUSTER_NODES: addresses
    .optional()
    .describe("Nodes of a Redis Cluster, `<host>:<port>,…`; the others are found through them"),
  REDIS_USERNAME: name.optional().describe("ACL user at Redis; overrides the one in `REDIS_URL`"),
  REDIS_PASSWORD: password.optional().describe("Its password"),
  REDIS_SENTINEL_USERNAME: name.optional().describe("ACL user at the Sentinels"),
  REDIS_SENTINEL_PASSWORD: password.optional().describe("Its password"),
  REDIS_TLS: z
    .enum(["true", "false"])
    .default("false")
    .transform((text) => text === "true")
    .describe("Whether Redis and the Sentinels are reached by TLS; `rediss://` says it for a URL"),
  REDIS_TLS_CA: z
    .string()
    .max(65_536)
    .regex(/^-----BEGIN CERTIFICATE-----\n/, "Expected certificates in PEM")
    .optional()
    .describe(
      "Certificates that their certificate must lead to, in PEM; without it those that Node.js trusts",
    ),
  REDIS_MIN_REPLICAS: z
    .string()
    .regex(/^[0-5]$/, "Expected a whole number from 0 to 5")
    .transform(Number)
    .optional()
    .describe(
      "Replicas that must have an operation before it is answered; 0 with `REDIS_URL`, else 1, unless set",
    ),
});

export type RedisConfig = z.infer<typeof redisEnvironment>;

export const minReplicasOf = ({ REDIS_MIN_REPLICAS, REDIS_URL }: RedisConfig): number =>
  REDIS_MIN_REPLICAS ?? (REDIS_URL === undefined ? 1 : 0);

/** What is missing, or contradicts each other, among the variables that are set: lines that begin with a name. */
export function redisProblems(isSet: (name: keyof RedisConfig) => boolean): string[] {
  const ways = [
    ["REDIS_URL"],
    ["REDIS_SENTINELS", "REDIS_NODES"],
    ["REDIS_CLUSTER_NODES"],
  ] as const satisfies readonly (readonly (keyof RedisConfig)[])[];
  const chosen = ways.map((way) => way.filter(isSet)).filter((way) => way.length > 0);
  const [first, ...others] = chosen;
  const problems = others.flat().map((other) => `${other}: contradicts ${first?.join(" and ")}`);
  if (first === undefined) {
    problems.push("REDIS_URL: missing, or else REDIS_SENTINELS, REDIS_NODES or REDIS_CLUSTER_NODES");
  }
  if (isSet("REDIS_SERVICE") && !isSet("REDIS_SENTINELS") && !isSet("REDIS_NODES")) {
    problems.push("REDIS_SERVICE: is for REDIS_SENTINELS or REDIS_NODES");
  }
  return problems;
}
