/** argon2id on libuv's thread pool: off the main thread, a bounded number at once, a bounded number waiting. */
import { randomBytes } from "node:crypto";
import { type Algorithm, hash, type Options, verify } from "@node-rs/argon2";
import type { PasswordHasher } from "../passwords.ts";
import { Problem } from "../problems.ts";

/** OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, 2 passes, 1 lane. */
export const ARGON2 = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/** `Algorithm.Argon2id`; the package declares it as a const enum, which type stripping cannot import. */
const ARGON2ID = 2 as Algorithm.Argon2id;

/** Jobs that may wait for each one under way, of all owners and of one: at 30 ms each, the last waits 4 s, or 1 s. */
const WAITING_PER_SLOT = 128;
const WAITING_PER_SLOT_AND_OWNER = 32;

export function createPasswordHasher(concurrency: number, parameters: Options = ARGON2): PasswordHasher {
  const options = { ...parameters, algorithm: ARGON2ID };
  const current = `$m=${parameters.memoryCost},t=${parameters.timeCost},p=${parameters.parallelism}$`;
  const inTurn = createFairQueue(concurrency);
  // No password has this hash, so verifying against it is work without a chance.
  const nobodys = `$argon2id$v=19${current}${randomBase64(16)}$${randomBase64(32)}`;

  return {
    hash: (password, owner) => inTurn(owner, () => hash(password, options)),
    verify: (password, stored, owner) =>
      inTurn(owner, async () => {
        const matches = await verify(stored ?? nobodys, password);
        if (stored === undefined) return { matches: false, outdated: false };
        return { matches, outdated: !stored.startsWith(`$argon2id$v=19${current}`) };
      }),
  };
}

const randomBase64 = (bytes: number): string => randomBytes(bytes).toString("base64").replaceAll("=", "");

/**
 * Run at most `slots` jobs at once. Those who wait are taken owner by owner in turn, so that many jobs of one owner
 * hold up the others by one job each and not by all. @throws {Problem} overloaded when too many wait
 */
function createFairQueue(slots: number) {
  let running = 0;
  let waiting = 0;
  /** Who waits, by owner; the owner whose turn is next comes first. */
  const lines = new Map<string, (() => void)[]>();

  function wait(owner: string): Promise<void> {
    const line = lines.get(owner) ?? [];
    if (waiting >= slots * WAITING_PER_SLOT || line.length >= slots * WAITING_PER_SLOT_AND_OWNER) {
      throw new Problem("overloaded");
    }
    waiting += 1;
    lines.set(owner, line);
    return new Promise((resolve) => line.push(resolve));
  }

  function next(): (() => void) | undefined {
    for (const [owner, line] of lines) {
      lines.delete(owner);
      if (line.length > 1) lines.set(owner, line);
      waiting -= 1;
      return line.shift();
    }
    return undefined;
  }

  return async function inTurn<T>(owner: string, job: () => Promise<T>): Promise<T> {
    if (running >= slots) await wait(owner);
    else running += 1;
    try {
      return await job();
    } finally {
      // The slot goes to the next in line without ever being free, so that nobody can slip in between.
      const take = next();
      if (take === undefined) running -= 1;
      else take();
    }
  };
}
