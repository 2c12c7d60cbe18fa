import { type Algorithm, hash as argon2Hash } from "@node-rs/argon2";
import fc from "fast-check";
import { beforeEach, expect, test, vi } from "vitest";
import { ARGON2, createPasswordHasher } from "../../shared/node/passwords.ts";
import { Problem } from "../../shared/problems.ts";

/** Counts the real computations: how many there were, and how many at once. */
const meter = vi.hoisted(() => ({ running: 0, most: 0, total: 0 }));
vi.mock("@node-rs/argon2", async (importOriginal) => {
  const real = await importOriginal<typeof import("@node-rs/argon2")>();
  const counted =
    <A extends unknown[], R>(work: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      meter.running += 1;
      meter.total += 1;
      meter.most = Math.max(meter.most, meter.running);
      try {
        return await work(...args);
      } finally {
        meter.running -= 1;
      }
    };
  return { ...real, hash: counted(real.hash), verify: counted(real.verify) };
});
beforeEach(() => Object.assign(meter, { running: 0, most: 0, total: 0 }));

/** As little work as argon2 can do, where the work itself is not what matters. */
const CHEAP = { memoryCost: 8, timeCost: 1, parallelism: 1 };
const PASSWORD = "correct horse battery staple";
/** Verifications that may wait for each one under way. */
const WAITING = 32;

/** A hasher whose jobs are one owner's unless said otherwise. */
function createHasher(...options: Parameters<typeof createPasswordHasher>) {
  const { hash, verify } = createPasswordHasher(...options);
  return {
    hash: (password: string, owner = "somebody") => hash(password, owner),
    verify: (password: string, stored: string | undefined, owner = "somebody") =>
      verify(password, stored, owner),
  };
}

const known = await createHasher(1).hash(PASSWORD);
const cheap = await createHasher(1, CHEAP).hash(PASSWORD);

test("a password is hashed with argon2id and the parameters that OWASP recommends, under a salt of its own", async () => {
  expect(ARGON2).toEqual({ memoryCost: 19_456, timeCost: 2, parallelism: 1 });
  expect(known).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
  expect(await createHasher(1).hash(PASSWORD)).not.toBe(known);
});

test("the right password matches, a wrong one and an unknown user's do not", async () => {
  const { verify } = createHasher(1);
  expect(await verify(PASSWORD, known)).toEqual({ matches: true, outdated: false });
  expect(await verify("wrong", known)).toMatchObject({ matches: false });
  expect(await verify(PASSWORD, undefined)).toMatchObject({ matches: false });
});

test("a hash matches the password it was made from and no other, whatever characters they have", async () => {
  const { hash, verify } = createHasher(2, CHEAP);
  const text = fc.oneof(
    fc.string({ unit: "binary", minLength: 1 }),
    fc.constantFrom("a", "A", "a ", " a", "a\0", "a\0b", "ä"),
  );
  await fc.assert(
    fc.asyncProperty(text, text, async (one, other) => {
      expect((await verify(other, await hash(one))).matches).toBe(one === other);
    }),
  );
  const long = "x".repeat(1024);
  expect((await verify(long, await hash(long))).matches).toBe(true);
  expect((await verify(`${long.slice(1)}y`, await hash(long))).matches).toBe(false);
});

test("an unknown user costs exactly as many computations as a wrong password, also on the first request", async () => {
  const cost = async (hasher: ReturnType<typeof createHasher>, stored: string | undefined) => {
    meter.total = 0;
    await hasher.verify("wrong", stored);
    return meter.total;
  };
  const [one, other] = [createHasher(1, CHEAP), createHasher(1, CHEAP)];
  expect(await cost(one, undefined)).toBe(await cost(other, cheap));
  expect([await cost(one, undefined), await cost(other, cheap)]).toEqual([1, 1]);
});

test("a hash with other parameters than today's still matches and is reported as outdated", async () => {
  const argon2i = 1 as Algorithm;
  const changes = [{ memoryCost: 16_384 }, { timeCost: 3 }, { parallelism: 2 }];
  const others = await Promise.all(
    changes.map((change) => createHasher(1, { ...ARGON2, ...change }).hash(PASSWORD)),
  );
  const { verify } = createHasher(1);
  for (const stored of [...others, cheap, await argon2Hash(PASSWORD, { ...ARGON2, algorithm: argon2i })]) {
    expect(await verify(PASSWORD, stored)).toEqual({ matches: true, outdated: true });
    expect(await verify("wrong", stored)).toMatchObject({ matches: false });
  }
  expect(await verify(PASSWORD, known)).toEqual({ matches: true, outdated: false });
});

test.each([1, 2, 3])("of any number of hashes %i are computed at once", async (concurrency) => {
  const { hash } = createHasher(concurrency, CHEAP);
  await Promise.all(Array.from({ length: 12 }, () => hash(PASSWORD)));
  expect(meter).toMatchObject({ total: 12, most: concurrency, running: 0 });
});

test.each([1, 2, 3])(
  "never more than %i computations run at once, from the first verification on",
  async (concurrency) => {
    for (const stored of [cheap, undefined]) {
      meter.most = 0;
      const { verify } = createHasher(concurrency, CHEAP);
      await Promise.all(Array.from({ length: 12 }, () => verify(PASSWORD, stored)));
      expect([stored === undefined, meter.most]).toEqual([stored === undefined, concurrency]);
    }
  },
);

test("beyond 32 waiting for each one under way, the next is told that the service is busy, and does no work", async () => {
  for (const concurrency of [1, 2]) {
    const { hash, verify } = createHasher(concurrency, CHEAP);
    meter.total = 0;
    const places = concurrency * (1 + WAITING);
    const taken = Array.from({ length: places }, () => hash(PASSWORD));
    for (const late of [hash(PASSWORD), verify(PASSWORD, cheap), verify(PASSWORD, undefined)]) {
      const problem = await late.catch((error: unknown) => error);
      expect(problem).toBeInstanceOf(Problem);
      expect(problem).toMatchObject({ code: "overloaded", status: 503, headers: { "Retry-After": "1" } });
    }
    expect(new Set(await Promise.all(taken)).size).toBe(places);
    expect(meter.total).toBe(places);
    expect((await verify(PASSWORD, cheap)).matches).toBe(true);
  }
});

test("owners take turns: one job of a newcomer waits for one job of each other owner, not for all of them", async () => {
  const { hash } = createHasher(1, CHEAP);
  const order: string[] = [];
  const job = (owner: string) => hash(PASSWORD, owner).then(() => order.push(owner));
  const crowd = Array.from({ length: 20 }, () => job("many"));
  await Promise.all([...crowd, job("other"), job("third")]);
  expect(order.indexOf("other")).toBeLessThanOrEqual(3);
  expect(order.indexOf("third")).toBeLessThanOrEqual(4);
  expect(order).toHaveLength(22);
});

test("many owners together may wait for no more than 128 jobs for each one under way", async () => {
  const { hash } = createHasher(1, CHEAP);
  const taken = Array.from({ length: 129 }, (_, index) => hash(PASSWORD, `owner ${index}`));
  await expect(hash(PASSWORD, "late")).rejects.toMatchObject({ code: "overloaded" });
  await Promise.all(taken);
});

test("a verification that fails gives its place back", async () => {
  const { verify } = createHasher(1, CHEAP);
  const broken = ["", "x", "$argon2id$", cheap.slice(0, -30), cheap.replace("m=8", "m=x")];
  for (let round = 0; round < 2 * WAITING; round += 1) {
    const stored = broken[round % broken.length];
    expect(
      await verify(PASSWORD, stored).then(
        ({ matches }) => matches,
        () => "failed",
      ),
    ).not.toBe(true);
  }
  expect((await verify(PASSWORD, cheap)).matches).toBe(true);
});

test("the event loop keeps turning while passwords are hashed and verified", async () => {
  const { hash, verify } = createHasher(1);
  let turns = 0;
  let timer = setImmediate(function turn() {
    turns += 1;
    timer = setImmediate(turn);
  });
  for (const work of [
    () => hash(PASSWORD),
    () => verify(PASSWORD, known),
    () => verify(PASSWORD, undefined),
  ]) {
    turns = 0;
    await work();
    // A computation on the main thread would be over before the loop could turn once.
    expect(turns).toBeGreaterThan(0);
  }
  clearImmediate(timer);
});
