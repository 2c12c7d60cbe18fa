/** Which of several Redis servers is the master: Sentinels are asked, pods are tried, and a candidate must prove itself. */
import { Redis, type RedisOptions } from "ioredis";
import type { Address, RedisConfig } from "../redis-config.ts";
import { minReplicasOf } from "../redis-config.ts";
import { pendingKey, probeKey } from "./keys.ts";

/** Milliseconds to reach a Sentinel or a candidate, and again for it to answer: one that hangs holds up a round no longer. */
const ASK_TIMEOUT = 500;
/** Seconds after which a probe's key goes by itself, should its DEL not arrive. */
const PROBE_TTL = 10;

/** One round of looking. @throws when nobody takes writes now, saying why of each that was asked */
export type FindMaster = () => Promise<Address>;

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
    const tried = new Map<string, Promise<Verdict>>();
    const tryOnce = (node: Address): Promise<Verdict> => {
      const known = tried.get(nameOf(node)) ?? takesWrites(node, accept, minReplicas);
      tried.set(nameOf(node), known);
      return known;
    };
    for (const node of nodes) void tryOnce(node);
    const answers = await Promise.all(
      sentinels.map((sentinel) => askSentinel(sentinel, config.REDIS_MASTER_NAME, ask)),
    );
    const named = answers.map(({ value }) => value).filter((address) => address !== undefined);
    const candidates = [...byVotes(named), ...nodes];
    for (const candidate of candidates) void tryOnce(candidate);
    for (const candidate of candidates) if ((await tryOnce(candidate)).value) return candidate;
    const reasons = [...answers, ...(await Promise.all(tried.values()))].map(({ reason }) => reason);
    throw new Error(`No Redis takes writes (${[...new Set(reasons)].filter(Boolean).join("; ")})`);
  };
}

/** What came of asking a server, or why nothing did. */
interface Heard<T> {
  readonly value?: T;
  readonly reason?: string;
}
type Verdict = Heard<boolean>;

const nameOf = ({ host, port }: Address): string => `${host}:${port}`;

function byVotes(answers: readonly Address[]): Address[] {
  const votes = new Map<string, { address: Address; count: number }>();
  for (const address of answers) {
    const count = (votes.get(nameOf(address))?.count ?? 0) + 1;
    votes.set(nameOf(address), { address, count });
  }
  return [...votes.values()].sort((one, other) => other.count - one.count).map(({ address }) => address);
}

const askSentinel = (sentinel: Address, name: string, credentials: Credentials): Promise<Heard<Address>> =>
  briefly(sentinel, credentials, async (redis) => {
    const answer = await redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name);
    const [host, port] = Array.isArray(answer) ? answer.map(String) : [];
    if (host === undefined) throw new Error(`knows no master ${name}`);
    return { host, port: Number(port) };
  });

/**
 * Whether it takes a write and has the replicas that an acknowledgement needs: a master that was left behind by a
 * failover takes writes for a while, but nobody replicates them.
 */
const takesWrites = (node: Address, credentials: Credentials, minReplicas: number): Promise<Verdict> =>
  briefly(node, credentials, async (redis) => {
    const key = probeKey(pendingKey(0));
    const [, , replicas] = await Promise.all([
      redis.setex(key, PROBE_TTL, ""),
      redis.del(key),
      minReplicas > 0 ? redis.wait(minReplicas, ASK_TIMEOUT / 2) : 0,
    ]);
    if (replicas < minReplicas) throw new Error(`has ${replicas} of ${minReplicas} replicas`);
    return true;
  });

/** Talk to a server over a connection of its own. */
async function briefly<T>(
  address: Address,
  credentials: Credentials,
  talk: (redis: Redis) => Promise<T>,
): Promise<Heard<T>> {
  const redis = new Redis({
    ...credentials,
    ...address,
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
  // Says more than the rejections that follow from it.
  let broken: Error | undefined;
  redis.on("error", (error) => {
    broken ??= error;
  });
  try {
    await redis.connect();
    return { value: await talk(redis) };
  } catch (error) {
    return { reason: `${nameOf(address)}: ${(broken ?? (error as Error)).message}` };
  } finally {
    redis.disconnect();
  }
}
