/** The store as operations see it: answered in bounded time, never done twice by itself, and acknowledged when replicated. */
import { setTimeout as delay } from "node:timers/promises";
import slotOf from "cluster-key-slot";
import type { Cluster, Redis, RedisCommander } from "ioredis";
import { type Meaning, meaningOf, NotSent, problemFor, Unanswered } from "./errors.ts";
import { PROBE_TTL, probeKey } from "./keys.ts";
import { createConfirm, NotReplicated, type ObserveWait } from "./replication.ts";
import { loadScript, type ScriptName } from "./scripts.ts";

/** Milliseconds from being asked to giving up, whatever happens in between: another connection, another try, an answer. */
const PATIENCE = 1_800;
/**
 * Milliseconds of them that Redis has at least. What would be sent with less left is refused: unanswered in time, it would
 * break a connection that has just been made again, for all who waited for it.
 */
const ANSWER_TIME = 300;
/** Milliseconds before what was refused is tried again. */
const RETRY_DELAY = 50;
/** A slot of a cluster has another master, or none. */
const MOVED = /^ReplyError: (MOVED|CLUSTERDOWN)\b/;
/** It is on its way there, and these keys are not here any more: the other is to be asked, this time. */
const ASK = /^ReplyError: ASK \d+ (\S+)$/;

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
   * Call it before plain commands in the shard of this key; what it answers resolves once replicas have everything that
   * they read or wrote. Not when another connection has taken its place meanwhile: a new master would confirm what only
   * the lost one has.
   * @throws {Problem} store_unavailable, outcome_unknown, not_replicated
   */
  readonly watch: (key: string) => Promise<() => Promise<void>>;
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

  /** Where a key is now, or where a node of the cluster said to ask. @throws {NotSent} */
  const nodeOf = (key: string, asking: string | undefined): Redis =>
    redis.isCluster
      ? masterAt(redis as Cluster, asking ?? masterOf(redis as Cluster, key))
      : (redis as Redis);

  /** Send something and answer when replicas have it: WAIT follows it closely, over the same connection. */
  async function replicated<T>(node: Redis, send: () => Promise<T>): Promise<T> {
    if (minReplicas === 0) return send();
    const answer = send();
    const confirmed = confirm(node);
    // Of what was refused nobody asks.
    confirmed.catch(() => undefined);
    const reply = await answer;
    await confirmed;
    return reply;
  }

  /**
   * @param place the key whose node is asked; none for what finds its own way
   * @param send `asking`: the node does not have the key's slot yet, and takes no command for it without ASKING
   */
  async function perform<T>(
    place: string | undefined,
    send: (node: Redis, asking: boolean) => Promise<T>,
    repeatable: boolean,
  ): Promise<T> {
    const deadline = performance.now() + PATIENCE;
    const lastSend = deadline - ANSWER_TIME;
    let asking: string | undefined;
    for (;;) {
      await ready(lastSend);
      let node = redis as Redis;
      try {
        if (place !== undefined) node = nodeOf(place, asking);
        return await answerBy(deadline, send(node, asking !== undefined));
      } catch (error) {
        const meaning = meaningOf(error);
        asking = asking === undefined ? ASK.exec(String(error))?.[1] : undefined;
        if (asking !== undefined) continue;
        // Replies come in order: what was sent later would wait for this one, and happen long after its caller was told.
        if (error instanceof Unanswered && !node.isCluster) node.stream.destroy();
        if (redis.isCluster && MOVED.test(String(error))) (redis as Cluster).refreshSlotsCache();
        const late = performance.now() + RETRY_DELAY >= lastSend;
        if (late || !mayRepeat(meaning, repeatable)) throw problemFor(meaning, error);
        await delay(RETRY_DELAY);
      }
    }
  }

  return {
    async run(name, keys, args) {
      const { sha1, text, repeatable, confirmed } = loadScript(name);
      const [place = ""] = keys;
      const runOn = async (node: Redis, asking: boolean): Promise<unknown> => {
        const call = (evaluate: () => Promise<unknown>) => {
          const send = () => {
            if (asking) node.asking().catch(() => undefined);
            return evaluate();
          };
          return confirmed ? replicated(node, send) : send();
        };
        try {
          return await call(() => node.evalsha(sha1, keys.length, ...keys, ...args));
        } catch (error) {
          if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
          return call(() => node.eval(text, keys.length, ...keys, ...args));
        }
      };
      const started = performance.now();
      try {
        return await perform(place, runOn, repeatable);
      } finally {
        observe?.script(name, (performance.now() - started) / 1000);
      }
    },
    ask: (send) => perform(undefined, () => send(redis), true),
    async watch(key) {
      if (minReplicas === 0) return async () => undefined;
      const probe = probeKey(key);
      const stream = await perform(key, async (node) => node.stream, true);
      const confirmOn = async (node: Redis): Promise<void> => {
        if (node.stream !== stream) throw new NotReplicated("the connection is another one");
        await replicated(node, () => node.setex(probe, PROBE_TTL, ""));
      };
      return () => perform(key, confirmOn, false);
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
    const left = Math.max(0, deadline - performance.now());
    timer = setTimeout(() => reject(new Unanswered("no answer in time")), left);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait for a connection. @throws {Problem} store_unavailable when there is none by then */
function createReady(redis: Redis | Cluster): (deadline: number) => Promise<void> {
  // A promise each: what waits for a shared one is kept until that is settled, and an outage can last.
  const waiting = new Set<() => void>();
  const goOn = (): void => {
    for (const go of waiting) go();
  };
  return async function ready(deadline) {
    if (redis.status === "ready" && performance.now() < deadline) return;
    let go = (): void => undefined;
    const connected = new Promise<void>((resolve) => {
      go = resolve;
    });
    if (waiting.size === 0) redis.on("ready", goOn);
    waiting.add(go);
    try {
      await answerBy(deadline, connected);
    } catch {
      throw problemFor("refused", new NotSent("no connection in time"));
    } finally {
      waiting.delete(go);
      if (waiting.size === 0) redis.off("ready", goOn);
    }
  };
}

/** The name of the master of the shard that a key is in, as the cluster's client sees it now. */
const masterOf = (cluster: Cluster, key: string): string | undefined => cluster.slots[slotOf(key)]?.[0];

/**
 * The master of that name. It is asked directly: the client would follow a redirection without saying whose replicas to
 * wait for. @throws {NotSent} when it is not one of the cluster's, or not connected
 */
function masterAt(cluster: Cluster, name: string | undefined): Redis {
  const node = cluster.nodes("master").find(({ options }) => `${options.host}:${options.port}` === name);
  if (node?.status === "ready") return node;
  if (node === undefined) cluster.refreshSlotsCache();
  if (node?.status === "wait") node.connect().catch(() => undefined);
  throw new NotSent("the shard's master is not connected");
}
