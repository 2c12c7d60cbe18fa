/** argon2id on libuv's thread pool: off the main thread, a bounded number at once, a bounded number waiting. */
import { type Algorithm, hash, type Options, verify } from "@node-rs/argon2";
import type { PasswordHasher } from "../passwords.ts";
import { Problem } from "../problems.ts";

/** OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, 2 passes, 1 lane. */
export const ARGON2 = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/** `Algorithm.Argon2id`; the package declares it as a const enum, which type stripping cannot import. */
const ARGON2ID = 2 as Algorithm.Argon2id;

/** Verifications that may wait for each one under way: at 30 ms each, the last waits about a second. */
const WAITING_PER_SLOT = 32;

export function createPasswordHasher(concurrency: number, parameters: Options = ARGON2): PasswordHasher {
  const options = { ...parameters, algorithm: ARGON2ID };
  const current = `$m=${parameters.memoryCost},t=${parameters.timeCost},p=${parameters.parallelism}$`;
  const inTurn = createQueue(concurrency, concurrency * WAITING_PER_SLOT);
  // Nobody knows the password of this hash, so verifying against it is work without a chance.
  let nobody: Promise<string> | undefined;

  return {
    hash: (password) => inTurn(() => hash(password, options)),
    verify: (password, stored) =>
      inTurn(async () => {
        nobody ??= hash(crypto.randomUUID(), options);
        const matches = await verify(stored ?? (await nobody), password);
        return {
          matches: matches && stored !== undefined,
          outdated:
            (stored !== undefined && !stored.startsWith("$argon2id$v=19")) || !stored?.includes(current),
        };
      }),
  };
}

/** Run at most `slots` jobs at once and let at most `places` wait. @throws {Problem} overloaded beyond that */
function createQueue(slots: number, places: number) {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async function inTurn<T>(job: () => Promise<T>): Promise<T> {
    if (running >= slots) {
      if (waiting.length >= places) throw new Problem("overloaded");
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      running += 1;
    }
    try {
      return await job();
    } finally {
      // The slot goes to the next in line without ever being free, so that nobody can slip in between.
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
