/** The store as operations see it: answered in bounded time, never done twice by itself, and acknowledged when replicated. */

import slotOf from "cluster-key-slot";
import type { Cluster, Redis, RedisCommander } from "ioredis";
import { type Meaning, meaningOf, problemFor, Unanswered } from "./errors.ts";
import { probeKey } from "./keys.ts";
import { createConfirm, NotReplicated, type ObserveWait } from "./replication.ts";
import { loadScript, type ScriptName } from "./scripts.ts";

/** Milliseconds from being asked to giving up, whatever happens in between: another connection, another try, an answer. */
const PATIENCE = 1_800;
/** Milliseconds before what was refused is tried again. */
const RETRY_DELAY = 50;
const PROBE_TTL = 10;

type Commands = RedisCommander<{ type: "default"; mapping: "resp2" }>;

export interface Store {
  /**
   * Run a script; arguments and replies are as the script's header says.
   * @throws {Problem} store_unavailable (nothing was done), outcome_unknown, not_replicated
   */
  readonly run: (name: ScriptName, keys: readonly string[], args: readonly string[]) => Promise<unknown>;
  /**
   * Send a plain command that may be sent again without harm. Its outcome is not confirmed by replicas.
   * @throws {Problem} store_unavailable, outcome_unknown
   */
  readonly ask: <T>(send: (redis: Commands) => Promise<T>) => Promise<T>;
  /**
   * Resolves once replicas have everything that was read or written before, in the shard of this key.
   * @throws {Problem} store_unavailable, not_replicated
   */
  readonly confirm: (key: string) => Promise<void>;
}

interface Options {
  readonly minReplicas: number;
  readonly observe?: {
    /** Seconds that a script took. */
    readonly script: (name: ScriptName, seconds: number) => void;
    readonly wait: ObserveWait;
  };
}

export function createStore(redis: Redis | Cluster, { minReplicas, observe }: Options): Store {
  const ready = createReady(redis);
  const confirm = createConfirm(minReplicas, observe?.wait ?? (() => undefined));

  /** Send something and answer when replicas have it: WAIT follows it closely, or, in a cluster, once it is known where it went. */
  async function replicated<T>(key: string, send: () => Promise<T>): Promise<T> {
    if (minReplicas === 0) return send();
    if (redis.isCluster) {
      const reply = await send();
      await confirm(nodeOf(redis as Cluster, key));
      return reply;
    }
    const answer = send();
    const [reply, confirmed] = await Promise.allSettled([answer, confirm(redis as Redis)]);
    if (reply.status === "rejected") throw reply.reason;
    if (confirmed.status === "rejected") throw confirmed.reason;
    return reply.value;
  }

  async function perform<T>(send: () => Promise<T>, repeatable: boolean): Promise<T> {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      await ready(deadline);
      try {
        return await answerBy(deadline, send());
      } catch (error) {
        const meaning = meaningOf(error);
        const late = performance.now() + RETRY_DELAY >= deadline;
        if (late || !mayRepeat(meaning, repeatable)) throw problemFor(meaning, error);
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY));
      }
    }
  }

  return {
    async run(name, keys, args) {
      const { sha1, text, repeatable, confirmed } = loadScript(name);
      const [place = ""] = keys;
      const call = (send: () => Promise<unknown>) => (confirmed ? replicated(place, send) : send());
      const started = performance.now();
      try {
        return await perform(async () => {
          try {
            return await call(() => redis.evalsha(sha1, keys.length, ...keys, ...args));
          } catch (error) {
            if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
            return call(() => redis.eval(text, keys.length, ...keys, ...args));
          }
        }, repeatable);
      } finally {
        observe?.script(name, (performance.now() - started) / 1000);
      }
    },
    ask: (send) => perform(() => send(redis), true),
    async confirm(key) {
      if (minReplicas === 0) return;
      const probe = probeKey(key);
      await perform(() => replicated(probe, () => redis.setex(probe, PROBE_TTL, "")), true);
    },
  };
}

/** Only what cannot happen twice is sent twice. */
const mayRepeat = (meaning: Meaning, repeatable: boolean): boolean =>
  meaning === "refused" || (repeatable && (meaning === "unknown" || meaning === "not_replicated"));

/** @throws {Unanswered} when there is no answer by then */
async function answerBy<T>(deadline: number, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Unanswered("no answer in time")), deadline - performance.now());
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait for a connection. @throws {Problem} store_unavailable when there is none by then */
function createReady(redis: Redis | Cluster): (deadline: number) => Promise<void> {
  let connected: Promise<void> | undefined;
  return async function ready(deadline) {
    if (redis.status === "ready") return;
    connected ??= new Promise<void>((resolve) => redis.once("ready", () => resolve())).then(() => {
      connected = undefined;
    });
    await answerBy(deadline, connected).catch((error) => {
      throw problemFor("refused", error);
    });
  };
}

/** The master of the shard that a key is in, as the cluster's client sees it now. */
function nodeOf(cluster: Cluster, key: string): Redis {
  const [name] = cluster.slots[slotOf(key)] ?? [];
  const node = cluster.nodes("master").find(({ options }) => `${options.host}:${options.port}` === name);
  if (node === undefined) throw new NotReplicated("the shard has no master");
  return node;
}
