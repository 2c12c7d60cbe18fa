/** Which of several Redis servers is the master: Sentinels are asked, pods are tried, and a candidate must prove itself. */
import { setTimeout as delay } from "node:timers/promises";
import { Redis, type RedisOptions } from "ioredis";
import type { Address, RedisConfig } from "../redis-config.ts";
import { minReplicasOf, toAddress } from "../redis-config.ts";
import { PROBE_TTL, pendingKey, probeKey } from "./keys.ts";

/** Milliseconds to reach a Sentinel or a candidate, and again for it to answer. */
const ASK_TIMEOUT = 500;
/** Milliseconds after which a round ends although somebody has not answered: a master that hangs holds up nobody for long. */
const ROUND = 300;
/** Milliseconds that replicas may take to have a probe. */
const REPLICATION_TIMEOUT = 250;

/** One round of looking. @throws when nobody takes writes now, saying why of each that was asked */
export type FindMaster = () => Promise<Address>;

type Credentials = Pick<RedisOptions, "username" | "password" | "tls">;

/**
 * Everybody is asked and tried at once. Whoever proves first that it has replicas is taken: only the master has. Without
 * that proof (`REDIS_MIN_REPLICAS=0`) order decides: the Sentinels' answers, most votes first, then the pods as they are
 * listed. The Service comes last in either case: whom it leads to next is its own choice.
 * @param accept a candidate is tried with these
 */
export function createMasterFinder(config: RedisConfig, accept: Credentials, ask: Credentials): FindMaster {
  const { REDIS_NODES: nodes = [], REDIS_SERVICE: service = [], REDIS_SENTINELS: sentinels = [] } = config;
  const minReplicas = minReplicasOf(config);
  const proveAnew = (node: Address) => takesWrites(node, accept, minReplicas);
  const askAnew = (sentinel: Address) => askSentinel(sentinel, config.REDIS_MASTER_NAME, ask);
  const [proving, asking] = [keepUnderway(proveAnew), keepUnderway(askAnew)];

  return async function findMaster() {
    const proofs = new Map<string, Promise<Address>>();
    const prove = (node: Address): Promise<Address> => {
      const proof = proofs.get(nameOf(node)) ?? proving(node);
      proofs.set(nameOf(node), proof);
      return proof;
    };
    const answers = sentinels.map(asking);
    const all = [...answers.map((answer) => answer.then(prove)), ...nodes.map(prove)];
    const reasons = new Set<string>();
    for (const one of all) one.catch(({ message }) => reasons.add(message));

    const ordered: Address[] = [];
    if (minReplicas > 0) {
      const first = await Promise.race([Promise.any(all).catch(() => undefined), delay(ROUND)]);
      if (first !== undefined) return first;
    } else ordered.push(...byVotes(await Promise.allSettled(answers)), ...nodes);
    for (const candidate of [...ordered, ...service]) {
      const proof = await prove(candidate).catch(({ message }) => void reasons.add(message));
      if (proof !== undefined) return proof;
    }
    throw new Error(`No Redis takes writes (${[...reasons].join("; ") || "nobody has answered yet"})`);
  };
}

/** Whoever is still being asked is not asked again: a late answer counts in the round in which it comes. */
function keepUnderway(ask: (address: Address) => Promise<Address>): (address: Address) => Promise<Address> {
  const underway = new Map<string, Promise<Address>>();
  return (address) => {
    const name = nameOf(address);
    const answer = underway.get(name) ?? ask(address).finally(() => underway.delete(name));
    underway.set(name, answer);
    return answer;
  };
}

const nameOf = ({ host, port }: Address): string => `${host}:${port}`;

function byVotes(answers: readonly PromiseSettledResult<Address>[]): Address[] {
  const votes = new Map<string, { address: Address; count: number }>();
  for (const answer of answers) {
    if (answer.status === "rejected") continue;
    const count = (votes.get(nameOf(answer.value))?.count ?? 0) + 1;
    votes.set(nameOf(answer.value), { address: answer.value, count });
  }
  return [...votes.values()].sort((one, other) => other.count - one.count).map(({ address }) => address);
}

const askSentinel = (sentinel: Address, name: string, credentials: Credentials): Promise<Address> =>
  briefly(sentinel, credentials, async (redis) => {
    const answer = await redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name);
    if (!Array.isArray(answer)) throw new Error(`knows no master ${name}`);
    const [host, port] = answer.map(String);
    const master = toAddress(host?.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
    if (master === undefined) throw new Error("names a master by something that is no address");
    return master;
  });

/**
 * Whether it takes a write and has the replicas that an acknowledgement needs: a master that was left behind by a
 * failover takes writes for a while, but nobody replicates them.
 * @returns the same address; rejects when not
 */
const takesWrites = (node: Address, credentials: Credentials, minReplicas: number): Promise<Address> =>
  briefly(node, credentials, async (redis) => {
    const key = probeKey(pendingKey(0));
    const [, , replicas] = await Promise.all([
      redis.setex(key, PROBE_TTL, ""),
      redis.del(key),
      minReplicas > 0 ? redis.wait(minReplicas, REPLICATION_TIMEOUT) : 0,
    ]);
    if (replicas < minReplicas) throw new Error(`has ${replicas} of ${minReplicas} replicas`);
    return node;
  });

/** Talk to a server over a connection of its own. @throws saying which one, and what was wrong */
async function briefly<T>(
  address: Address,
  credentials: Credentials,
  talk: (redis: Redis) => Promise<T>,
): Promise<T> {
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
    return await talk(redis);
  } catch (error) {
    throw new Error(`${nameOf(address)}: ${(broken ?? (error as Error)).message}`);
  } finally {
    redis.disconnect();
  }
}
