/** Three data nodes and three Sentinels, started by the scripts and the configuration of k8s/redis, unchanged. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import { toRecord } from "../../shared/redis/replies.ts";
import { repository, until } from "../support/process.ts";
import { confirmWrites } from "../support/redis-servers.ts";
import type { Pod, World } from "./world.ts";

const scripts = join(repository, "k8s/redis");
const MASTER_NAME = "latchkey";
const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;
const COPIES = [0, 1, 2] as const;
/** Milliseconds: more than any start, sync or failover that works takes. */
const PATIENCE = 60_000;

const secret = () => randomBytes(24).toString("base64url");
const passwords = {
  LATCHKEY_PASSWORD: secret(),
  LATCHKEY_SENTINEL_PASSWORD: secret(),
  REPLICA_PASSWORD: secret(),
  SENTINEL_PASSWORD: secret(),
  HEALTH_PASSWORD: secret(),
  ADMIN_PASSWORD: secret(),
};

const redisHost = (copy: number) => `redis-${copy}.redis-headless`;
const sentinelHost = (copy: number) => `sentinel-${copy}.sentinel-headless`;
const addresses = {
  REDIS_NODES: COPIES.map((copy) => `${redisHost(copy)}:${REDIS_PORT}`).join(),
  REDIS_SENTINELS: COPIES.map((copy) => `${sentinelHost(copy)}:${SENTINEL_PORT}`).join(),
  REDIS_MASTER_NAME: MASTER_NAME,
};

/** What a function needs to find a cluster. */
export const clientEnvironment = {
  ...addresses,
  REDIS_USERNAME: "latchkey",
  REDIS_PASSWORD: passwords.LATCHKEY_PASSWORD,
  REDIS_SENTINEL_USERNAME: "latchkey",
  REDIS_SENTINEL_PASSWORD: passwords.LATCHKEY_SENTINEL_PASSWORD,
};

export interface Node {
  readonly pod: Pod;
  readonly port: number;
  /** Start its container. */
  start(): void;
  /** Stop it as the kubelet does: preStop, SIGTERM, and the end of the pod. */
  stop(): Promise<void>;
  isReady(): Promise<boolean>;
  /** Its volume is gone, and an empty one is in its place. */
  loseVolume(): void;
  /** The tests' own connection, as admin. */
  readonly admin: Redis;
}
export type Cluster = ReturnType<typeof createCluster>;

export interface Tls {
  /** Where tls.crt, tls.key and ca.crt are. */
  readonly files: string;
  /** Certificates that those of the pods lead to. */
  readonly ca: string;
}

/** A certificate for every pod, which is its own authority. */
export function createTls(folder: string): Tls {
  const files = join(folder, "tls");
  mkdirSync(files);
  const names = COPIES.flatMap((copy) => [redisHost(copy), sentinelHost(copy)]).map((name) => `DNS:${name}`);
  const [key, certificate] = ["tls.key", "tls.crt"].map((name) => join(files, name)) as [string, string];
  const made = ["-keyout", key, "-out", certificate, "-addext", `subjectAltName=${names.join()}`];
  const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=redis";
  execFileSync("openssl", [...options.split(" "), ...made], { stdio: "pipe" });
  copyFileSync(certificate, join(files, "ca.crt"));
  return { files, ca: readFileSync(certificate, "utf8") };
}

/** The tests come by an address, which no certificate names. */
export const tlsOf = (tls: Tls | undefined) =>
  tls === undefined ? {} : { tls: { ca: tls.ca, checkServerIdentity: () => undefined } };

function adminOf(pod: Pod, port: number, tls: Tls | undefined): Redis {
  const admin = new Redis(port, pod.address, {
    ...tlsOf(tls),
    username: "admin",
    password: passwords.ADMIN_PASSWORD,
    enableReadyCheck: false,
    commandTimeout: 1_000,
    connectTimeout: 1_000,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: () => 100,
  });
  admin.on("error", () => undefined);
  return admin;
}

export function createCluster(world: World, tls?: Tls) {
  function createNode(kind: "redis" | "sentinel", copy: number): Node {
    const [host, port] =
      kind === "redis" ? [redisHost(copy), REDIS_PORT] : [sentinelHost(copy), SENTINEL_PORT];
    const pod = world.addPod(`${kind}-${copy}`, host);
    const [data, run] = ["data", "run"].map((name) => join(world.folder, `${pod.name}-${name}`)) as [
      string,
      string,
    ];
    for (const folder of [data, run]) mkdirSync(folder);
    const env = {
      ...addresses,
      ...passwords,
      SELF: `${host}:${port}`,
      RUN: run,
      ...(tls === undefined ? {} : { REDIS_TLS: "true", TLS_FILES: tls.files }),
      ...(kind === "redis"
        ? { REDIS_DATA: data, REDIS_MEMORY_LIMIT: String(512 * 1024 * 1024) }
        : { SENTINEL_DATA: data }),
    };
    const script = (name: string, ...args: string[]) => pod.run("sh", [join(scripts, name), ...args], env);
    return {
      pod,
      port,
      admin: adminOf(pod, port, tls),
      start: () => pod.start("sh", [join(scripts, `start-${kind}.sh`)], env),
      async stop() {
        if (kind === "redis") await script("stop-redis.sh");
        pod.signal("SIGTERM");
        await pod.ended();
        pod.disappear();
      },
      loseVolume() {
        rmSync(data, { recursive: true });
        mkdirSync(data);
      },
      isReady: () => script("probe.sh", kind === "redis" ? "ready" : "asked"),
    };
  }
  const redis = COPIES.map((copy) => createNode("redis", copy));
  const sentinels = COPIES.map((copy) => createNode("sentinel", copy));
  const all = [...redis, ...sentinels];

  /** The node that says it is the master; undefined when it is none or more than one. */
  async function master(): Promise<Node | undefined> {
    const roles = await Promise.all(redis.map(({ admin }) => admin.role().catch(() => [])));
    const masters = redis.filter((_, copy) => roles[copy]?.[0] === "master");
    return masters.length === 1 ? masters[0] : undefined;
  }

  /** One master, two replicas that follow, and three Sentinels that say so. @returns the master */
  async function isHealthy(): Promise<Node | undefined> {
    const node = await master();
    if (node === undefined) return undefined;
    if (!(await confirmWrites(node.admin, COPIES.length - 1))) return undefined;
    for (const { admin } of sentinels) {
      const seen = toRecord((await admin.call("SENTINEL", "MASTER", MASTER_NAME)) as string[]);
      const said = ["ip", "flags", "num-slaves", "num-other-sentinels"].map((name) => seen[name]);
      if (said.join() !== [node.pod.host, "master", 2, 2].join()) return undefined;
      for (const list of ["REPLICAS", "SENTINELS"]) {
        const known = ((await admin.call("SENTINEL", list, MASTER_NAME)) as string[][]).map(toRecord);
        if (known.some(({ flags = "" }) => /down|disconnected/.test(flags))) return undefined;
      }
    }
    return node;
  }

  return {
    redis,
    sentinels,
    master,
    healthy: () => until("a healthy cluster", () => isHealthy().catch(() => undefined), PATIENCE),
    start() {
      for (const node of all) {
        node.pod.appear();
        node.start();
      }
    },
    disconnect() {
      for (const { admin } of all) admin.disconnect();
    },
  };
}
