/** Which of several Redis servers is the master: Sentinels are asked, pods are tried, and a candidate must prove itself. */
import { Redis, type RedisOptions } from "ioredis";
import type { Address, RedisConfig } from "../redis-config.ts";
import { minReplicasOf } from "../redis-config.ts";
import { pendingKey, probeKey } from "./keys.ts";

/** Milliseconds to reach a Sentinel or a candidate, and again for it to answer: one that hangs holds up a round no longer. */
const ASK_TIMEOUT = 500;
/** Seconds after which a probe's key goes by itself, should its DEL not arrive. */
const PROBE_TTL = 10;

/** One round of looking. @returns undefined when nobody takes writes now */
export type FindMaster = () => Promise<Address | undefined>;

type Credentials = Pick<RedisOptions, "username" | "password" | "tls">;

/**
 * Everybody is asked and tried at once, so that a round takes as long as its slowest answer; who is taken goes by order:
 * the Sentinels' answers, most votes first, then the pods as they are listed, then the Service.
 * @param accept a candidate is tried with these
 */
export function createMasterFinder(config: RedisConfig, accept: Credentials, ask: Credentials): FindMaster {
  const nodes = [...(config.REDIS_NODES ?? []), ...(config.REDIS_SERVICE ?? [])];
  const minReplicas = minReplicasOf(config);
  const sentinels = config.REDIS_SENTINELS ?? [];
  return async function findMaster() {
    const tried = new Map<string, Promise<boolean>>();
    const tryOnce = (node: Address): Promise<boolean> => {
      const known = tried.get(keyOf(node)) ?? takesWrites(node, accept, minReplicas);
      tried.set(keyOf(node), known);
      return known;
    };
    for (const node of nodes) void tryOnce(node);
    const answers = await Promise.all(
      sentinels.map((sentinel) => askSentinel(sentinel, config.REDIS_MASTER_NAME, ask)),
    );
    const candidates = [...byVotes(answers), ...nodes];
    for (const candidate of candidates) void tryOnce(candidate);
    for (const candidate of candidates) if (await tryOnce(candidate)) return candidate;
    return undefined;
  };
}

const keyOf = ({ host, port }: Address): string => `${host} ${port}`;

function byVotes(answers: readonly (Address | undefined)[]): Address[] {
  const votes = new Map<string, { address: Address; count: number }>();
  for (const address of answers) {
    if (address === undefined) continue;
    const count = (votes.get(keyOf(address))?.count ?? 0) + 1;
    votes.set(keyOf(address), { address, count });
  }
  return [...votes.values()].sort((one, other) => other.count - one.count).map(({ address }) => address);
}

/** @returns undefined when it does not answer, or does not know the master */
const askSentinel = (
  sentinel: Address,
  name: string,
  credentials: Credentials,
): Promise<Address | undefined> =>
  briefly(sentinel, credentials, async (redis) => {
    const answer = await redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name);
    if (!Array.isArray(answer)) return undefined;
    const [host, port] = answer.map(String);
    return host === undefined ? undefined : { host, port: Number(port) };
  });

/**
 * Whether it takes a write and has the replicas that an acknowledgement needs: a master that was left behind by a
 * failover takes writes for a while, but nobody replicates them.
 */
async function takesWrites(node: Address, credentials: Credentials, minReplicas: number): Promise<boolean> {
  const proven = await briefly(node, credentials, async (redis) => {
    const key = probeKey(pendingKey(0));
    const [, , replicas] = await Promise.all([
      redis.setex(key, PROBE_TTL, ""),
      redis.del(key),
      minReplicas > 0 ? redis.wait(minReplicas, ASK_TIMEOUT / 2) : 0,
    ]);
    return replicas >= minReplicas;
  });
  return proven ?? false;
}

/** Talk to a server over a connection of its own. @returns undefined when that fails for whatever reason */
async function briefly<T>(
  { host, port }: Address,
  credentials: Credentials,
  talk: (redis: Redis) => Promise<T>,
): Promise<T | undefined> {
  const redis = new Redis({
    ...credentials,
    host,
    port,
    connectionName: "latchkey-probe",
    lazyConnect: true,
    enableReadyCheck: false,
    disableClientInfo: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: ASK_TIMEOUT,
    commandTimeout: ASK_TIMEOUT,
    disconnectTimeout: 0,
  });
  redis.on("error", () => undefined);
  try {
    await redis.connect();
    return await talk(redis);
  } catch {
    return undefined;
  } finally {
    redis.disconnect();
  }
}
