/** audit-ship when Loki refuses entries, with 400 or 413: all others arrive, those are quarantined with the reason. */
import { expect, test } from "vitest";
import { createRig, entriesOf, entryOf, type Push, type Rig } from "./support/shipper.ts";

const HOUR = 3_600_000;
const sorted = (removed: readonly string[]): number[] =>
  removed.map((one) => Number(one.split("/")[1])).sort((a, b) => a - b);
const numbers = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);
const poisoned =
  (seq: number, status = 400, text = "bad") =>
  (push: Push) =>
    push.seqs.includes(seq) ? { status, text } : 204;
const settledAfter = async (rig: Rig, count: number): Promise<number> => {
  const sent = rig.send("acme", entriesOf("acme", 1, count));
  let waited = 0;
  for (; sent.outcome === "pending" && waited < HOUR; waited += 100) await rig.clock.advance(100);
  expect(sent.outcome).toBe("settled");
  return waited;
};

test.each([1, 2_500, 5_000, 7_777, 10_000])(
  "one poisoned entry in 10,000 (number %d): 9,999 arrive, it is quarantined with its reason, nothing waits for it",
  async (seq) => {
    const rig = createRig({ answer: poisoned(seq, 400, "Max entry size '262144' bytes exceeded") });
    expect(await settledAfter(rig, 10_000)).toBeLessThanOrEqual(300);
    const stored = rig.pushes.filter(({ status }) => status === 204).flatMap(({ seqs }) => seqs);
    expect(stored).toEqual(numbers(1, 10_000).filter((one) => one !== seq));
    const reason = "400 Max entry size '262144' bytes exceeded";
    expect(rig.quarantined).toEqual([{ tenant: "acme", seq, reason }]);
    expect(sorted(rig.removed)).toEqual(numbers(1, 10_000));
    expect(rig.pushes.length).toBeLessThanOrEqual(2 + 2 * Math.ceil(Math.log2(5_000)));
    expect(rig.eventsOf("quarantined")).toMatchObject([{ class: "line_too_long", entry: { seq } }]);
  },
);

test("a poisoned entry holds up neither the tenant's other streams nor other tenants", async () => {
  const rig = createRig({ answer: poisoned(1), quarantine: () => new Promise(() => {}) });
  const stuck = rig.send("acme", [entryOf("acme", 1)]);
  const others = [
    rig.send("acme", entriesOf("acme", 2, 9, "get_key")),
    rig.send("bolt", entriesOf("bolt", 2, 9)),
  ];
  await rig.clock.advance(300);
  expect(others.map(({ outcome }) => outcome)).toEqual(["settled", "settled"]);
  expect(stuck.outcome).toBe("pending");
});

test("what Loki refuses and the outbox does not hold is kept nowhere, and nobody says that it was", async () => {
  const rig = createRig({ answer: poisoned(2), quarantine: async () => false });
  await settledAfter(rig, 3);
  expect([rig.quarantined, rig.eventsOf("quarantined")]).toEqual([[], []]);
  expect(sorted(rig.removed)).toEqual([1, 2, 3]);
});

test("413 halves too, and one entry that is too large alone is quarantined", async () => {
  const rig = createRig({ answer: ({ seqs }) => (seqs.length > 2 || seqs.includes(5) ? 413 : 204) });
  await settledAfter(rig, 16);
  expect(rig.quarantined.map(({ seq }) => seq)).toEqual([5]);
  expect(rig.eventsOf("quarantined")).toMatchObject([{ class: "too_large" }]);
});

test("a stream of nothing but poison is quarantined entry by entry", async () => {
  const rig = createRig({ answer: () => 400 });
  await settledAfter(rig, 100);
  expect(rig.quarantined.map(({ seq }) => seq)).toEqual(numbers(1, 100));
  expect(rig.pushes.length).toBeLessThan(200);
});

test.each([
  ["entry for stream '{}' has timestamp too old: 2020-01-01", "too_old"],
  ["entry too far behind, entry timestamp is: 2020-01-01", "too_far_behind"],
  ["entry for stream '{}' has timestamp too new: 2030-01-01", "too_new"],
  ["stream '{}' has structured metadata too large", "metadata"],
  ["something new", "other"],
])("%s: counted as %s", async (text, name) => {
  const rig = createRig({ answer: poisoned(1, 400, text) });
  await settledAfter(rig, 1);
  expect(rig.eventsOf("quarantined")).toMatchObject([{ class: name, reason: `400 ${text}` }]);
});

test("of a long reason a thousand characters are kept", async () => {
  const rig = createRig({ answer: poisoned(1, 400, "\ud800".repeat(100_000)) });
  await settledAfter(rig, 1);
  expect(rig.quarantined[0]?.reason).toBe(`400 ${"\ufffd".repeat(996)}`);
});

test.each(["has timestamp too old", "entry too far behind"])(
  "%s, and Loki has it already: settled, not quarantined",
  async (text) => {
    const rig = createRig({ answer: poisoned(2, 400, text), isStored: async (_, { seq }) => seq === 2 });
    await settledAfter(rig, 3);
    expect([rig.quarantined, sorted(rig.removed)]).toEqual([[], [1, 2, 3]]);
  },
);

test("too far behind, and Loki does not have it: quarantined", async () => {
  const rig = createRig({ answer: poisoned(2, 400, "entry too far behind"), isStored: async () => false });
  await settledAfter(rig, 3);
  expect(rig.quarantined.map(({ seq }) => seq)).toEqual([2]);
});

test("too far behind, and Loki cannot say: left to the outbox, neither quarantined nor removed", async () => {
  const isStored = () => Promise.reject(new Error("timeout"));
  const rig = createRig({ answer: poisoned(1, 400, "entry too far behind"), isStored });
  const sent = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(HOUR);
  expect([sent.outcome, rig.quarantined, rig.removed]).toEqual(["store", [], []]);
});

test("a quarantine that fails is tried again, and the entry leaves the outbox only then", async () => {
  let failures = 3;
  const quarantine = async (): Promise<void> => {
    if (failures-- > 0) throw new Error("Redis is away");
  };
  const rig = createRig({ answer: poisoned(1), quarantine });
  const sent = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(1_000);
  expect([sent.outcome, rig.removed]).toEqual(["pending", []]);
  await rig.clock.advance(10_000);
  expect([sent.outcome, rig.removed, rig.quarantined.length]).toEqual(["settled", ["acme/1"], 1]);
});

test("an entry that cannot even be encoded is quarantined, and the rest arrives", async () => {
  const rig = createRig({
    encode: (entries) => {
      if (entries.some(({ seq }) => seq === 3)) throw new TypeError("a cycle");
      return JSON.stringify(entries.map(({ seq, action }) => ({ seq, action })));
    },
  });
  await settledAfter(rig, 10);
  expect(rig.quarantined).toEqual([{ tenant: "acme", seq: 3, reason: "-1 TypeError: a cycle" }]);
  expect(rig.pushes.flatMap(({ seqs }) => seqs)).toEqual([1, 2, 4, 5, 6, 7, 8, 9, 10]);
});

test("an entry that cannot be encoded is found in a batch that is too large as well", async () => {
  const rig = createRig({
    encode: (entries) => {
      if (entries.length > 8) return " ".repeat(1_000_001);
      if (entries.some(({ seq }) => seq === 3)) throw new TypeError("a cycle");
      return JSON.stringify(entries.map(({ seq, action }) => ({ seq, action })));
    },
  });
  await settledAfter(rig, 32);
  expect(rig.quarantined.map(({ seq }) => seq)).toEqual([3]);
  expect(rig.pushes.flatMap(({ seqs }) => seqs)).toEqual(numbers(1, 32).filter((seq) => seq !== 3));
  expect(rig.stats().entries).toBe(0);
});
