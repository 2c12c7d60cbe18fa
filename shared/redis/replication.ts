/** Acknowledged means replicated: one WAIT for all that a process has sent in one turn of its event loop. */
import type { Redis } from "ioredis";

/** Milliseconds that replicas may take. The connection serves nobody else meanwhile, so it is below every other bound. */
const WAIT_TIMEOUT = 1_000;

/** How a group of operations ended, and the seconds that it took. */
export type ObserveWait = (outcome: "confirmed" | "too_few" | "failed", seconds: number) => void;

export class NotReplicated extends Error {
  override readonly name = "NotReplicated";
}

/** Resolves once replicas have everything that was sent on this connection. @throws {NotReplicated} */
export type Confirm = (redis: Redis) => Promise<void>;

/**
 * WAIT speaks of what its own connection has written before (redis.io/commands/wait), so it has to follow on the same
 * one: a connection that was made anew would confirm at once what the lost one wrote.
 */
export function createConfirm(minReplicas: number, observe: ObserveWait): Confirm {
  const groups = new WeakMap<Redis, Promise<void>>();

  async function wait(redis: Redis, stream: Redis["stream"]): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    groups.delete(redis);
    const started = performance.now();
    const answer = redis.stream === stream ? await ask(redis) : "unknown (the connection is another one)";
    const outcome = typeof answer !== "number" ? "failed" : answer < minReplicas ? "too_few" : "confirmed";
    observe(outcome, (performance.now() - started) / 1000);
    if (outcome !== "confirmed") throw new NotReplicated(`${answer} of ${minReplicas} replicas`);
  }

  /** How many have it, or why nobody knows. */
  const ask = (redis: Redis): Promise<number | string> =>
    redis.wait(minReplicas, WAIT_TIMEOUT).catch(({ message }: Error) => `unknown (${message})`);

  return function confirm(redis) {
    const group = groups.get(redis) ?? wait(redis, redis.stream);
    groups.set(redis, group);
    return group;
  };
}
