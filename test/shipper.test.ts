/** audit-ship's batches: what goes together, in which order, and when an entry is settled. */
import { expect, test } from "vitest";
import { createRig, entriesOf, entryOf } from "./support/shipper.ts";

test("an entry is settled when Loki has it and the outbox has not, and not before", async () => {
  let deleted = (): void => {};
  const rig = createRig({
    answer: () => ({ after: 1_000, status: 204 }),
    remove: () =>
      new Promise<void>((resolve) => {
        deleted = resolve;
      }),
  });
  const sent = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(1_299);
  expect([sent.outcome, rig.removed]).toEqual(["pending", []]);
  await rig.clock.advance(1_000);
  expect(rig.pushes.map(({ status }) => status)).toEqual([204]);
  expect(sent.outcome).toBe("pending");
  deleted();
  await rig.clock.advance(0);
  expect([sent.outcome, rig.removed]).toEqual(["settled", ["acme/1"]]);
  expect(rig.eventsOf("shipped")).toEqual([{ type: "shipped", tenantId: "acme", entries: 1 }]);
});

test("entries wait 300 ms for company and then go together", async () => {
  const rig = createRig();
  const first = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(200);
  const second = rig.send("acme", [entryOf("acme", 2)]);
  await rig.clock.advance(99);
  expect(rig.pushes).toEqual([]);
  await rig.clock.advance(1);
  expect(rig.pushes.map(({ seqs }) => seqs)).toEqual([[1, 2]]);
  expect([first.outcome, second.outcome]).toEqual(["settled", "settled"]);
});

test("5,000 entries go at once, and no push has more", async () => {
  const rig = createRig();
  await rig.clock.advance(10_000);
  const sent = rig.send("acme", entriesOf("acme", 1, 12_000));
  await rig.clock.advance(299);
  expect(rig.pushes.map(({ seqs }) => seqs.length)).toEqual([5_000, 5_000]);
  expect(sent.outcome).toBe("pending");
  await rig.clock.advance(1);
  expect(rig.pushes.map(({ seqs }) => seqs.length)).toEqual([5_000, 5_000, 2_000]);
  expect(sent.outcome).toBe("settled");
});

test("a megabyte goes at once, and no push is larger", async () => {
  const rig = createRig({ sizeOf: () => 300_000 });
  rig.send("acme", entriesOf("acme", 1, 3));
  await rig.clock.advance(299);
  expect(rig.pushes).toEqual([]);
  rig.send("acme", entriesOf("acme", 4, 4));
  await rig.clock.advance(0);
  expect(rig.pushes.map(({ seqs }) => seqs)).toEqual([[1, 2, 3]]);
});

test("a body above a megabyte is halved before it is sent, also when its characters have three bytes", async () => {
  const bodyOf = (length: number): string => JSON.stringify([{ text: "€".repeat(length * 100_000) }]);
  const rig = createRig({ encode: (entries) => bodyOf(entries.length), sizeOf: () => 1 });
  const sent = rig.send("acme", entriesOf("acme", 1, 12));
  await rig.clock.advance(300);
  expect(sent.outcome).toBe("settled");
  expect(rig.pushes.map(({ body }) => body)).toEqual(Array(4).fill(bodyOf(3)));
});

test("an entry that is larger than a batch goes alone", async () => {
  const rig = createRig({ sizeOf: ({ seq }) => (seq === 2 ? 2_000_000 : 10) });
  const sent = rig.send("acme", entriesOf("acme", 1, 3));
  await rig.clock.advance(300);
  expect(rig.pushes.map(({ seqs }) => seqs)).toEqual([[1], [2], [3]]);
  expect(sent.outcome).toBe("settled");
});

test("a push holds the entries of one tenant and one action", async () => {
  const rig = createRig();
  const sent = ["acme", "bolt"].map((tenant) =>
    rig.send(tenant, [entryOf(tenant, 1), entryOf(tenant, 2, { action: "get_key" }), entryOf(tenant, 3)]),
  );
  await rig.clock.advance(300);
  expect(rig.pushes.map(({ tenant, action, seqs }) => [tenant, action, seqs])).toEqual([
    ["acme", "create_key", [1, 3]],
    ["acme", "get_key", [2]],
    ["bolt", "create_key", [1, 3]],
    ["bolt", "get_key", [2]],
  ]);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["settled", "settled"]);
});

test("a stream's entries go oldest first, in whatever order they come", async () => {
  const rig = createRig({ limits: { batchEntries: 4 } });
  for (const seqs of [[7, 8, 9], [1, 2], [5, 6], [3], [4]])
    rig.send(
      "acme",
      seqs.map((seq) => entryOf("acme", seq)),
    );
  await rig.clock.advance(1_000);
  // The first four were a full batch before 3 to 6 came.
  expect(rig.pushes.map(({ seqs }) => seqs)).toEqual([[1, 2, 7, 8], [3, 4, 5, 6], [9]]);
});

test("a stream has one push in flight, while the other streams of its tenant go on", async () => {
  const rig = createRig({ answer: () => ({ after: 10_000, status: 204 }) });
  rig.send("acme", entriesOf("acme", 1, 15_000));
  rig.send("acme", entriesOf("acme", 20_001, 20_010, "get_key"));
  await rig.clock.advance(9_999);
  expect(rig.pushes.map(({ action, seqs }) => [action, seqs.length])).toEqual([
    ["create_key", 5_000],
    ["get_key", 10],
  ]);
  await rig.clock.advance(60_000);
  expect(rig.most.stream).toBe(1);
  expect(rig.removed).toHaveLength(15_010);
});

test("an entry that comes again while it waits or flies is pushed once and settles every delivery", async () => {
  const rig = createRig({ answer: () => ({ after: 1_000, status: 204 }) });
  const entry = entryOf("acme", 1);
  const sent = [rig.send("acme", [entry]), rig.send("acme", [entry, entryOf("acme", 2)])];
  await rig.clock.advance(500);
  sent.push(rig.send("acme", [{ ...entry }]));
  await rig.clock.advance(799);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "pending"]);
  await rig.clock.advance(1);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["settled", "settled", "settled"]);
  expect(rig.pushes.map(({ seqs }) => seqs)).toEqual([[1, 2]]);
  expect(rig.eventsOf("received").map(({ entries, duplicates }) => [entries, duplicates])).toEqual([
    [1, 0],
    [2, 1],
    [1, 1],
  ]);
});

test("an entry that stands twice in one delivery is pushed once", async () => {
  const rig = createRig();
  const sent = rig.send("acme", [entryOf("acme", 1), entryOf("acme", 1)]);
  await rig.clock.advance(300);
  expect([sent.outcome, rig.pushes.map(({ seqs }) => seqs)]).toEqual(["settled", [[1]]]);
});

test("two entries that were given the same number are two entries", async () => {
  const rig = createRig();
  const sent = rig.send("acme", [entryOf("acme", 1), entryOf("acme", 1, { id: "evt_after_failover" })]);
  await rig.clock.advance(300);
  expect([sent.outcome, rig.pushes.map(({ seqs }) => seqs)]).toEqual(["settled", [[1, 1]]]);
});

test("the second of two such entries is still known after the first has left", async () => {
  const rig = createRig({ answer: () => ({ after: 1_000, status: 204 }), limits: { batchEntries: 1 } });
  const twins = ["evt_a", "evt_b", "evt_c"].map((id) => entryOf("acme", 1, { id }));
  rig.send("acme", twins);
  await rig.clock.advance(1_500);
  const again = rig.send("acme", twins.slice(1));
  await rig.clock.advance(10_000);
  expect([again.outcome, rig.pushes.length, rig.stats().tenants]).toEqual(["settled", 3, 0]);
});

test("entries of another tenant are refused before anything is queued", async () => {
  const rig = createRig();
  await expect(rig.accept("acme", [entryOf("acme", 1), entryOf("bolt", 2)])).rejects.toThrow(RangeError);
  expect(rig.stats().entries).toBe(0);
});

test("a delivery without entries is settled", async () => {
  await expect(createRig().accept("acme", [])).resolves.toBeUndefined();
});

test("a removal that fails is repeated without another push, and nothing is settled until it succeeds", async () => {
  let failures = 4;
  const rig = createRig({
    remove: async () => {
      if (failures-- > 0) throw new Error("Redis is away");
    },
  });
  const sent = rig.send("acme", entriesOf("acme", 1, 3));
  await rig.clock.advance(2_000);
  expect(sent.outcome).toBe("pending");
  await rig.clock.advance(10_000);
  expect(sent.outcome).toBe("settled");
  expect(rig.pushes).toHaveLength(1);
  expect(rig.removed).toEqual(["acme/1", "acme/2", "acme/3"]);
});

test("entries that cannot be removed are left to the outbox after ten tries, and the stream goes on", async () => {
  const rig = createRig({
    remove: async (_, seqs) => {
      if (seqs.includes(1)) throw new Error("WRONGTYPE");
    },
  });
  const stuck = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(1_000);
  const next = rig.send("acme", [entryOf("acme", 2)]);
  await rig.clock.advance(300_000);
  expect([stuck.outcome, next.outcome]).toEqual(["store", "settled"]);
  expect(rig.eventsOf("store_failed")).toHaveLength(10);
  expect(rig.stats()).toMatchObject({ entries: 0, bytes: 0, deliveries: 0, tenants: 0 });
});

test("an observer that throws stops nothing", async () => {
  const rig = createRig({
    observe: () => {
      throw new Error("no such metric");
    },
  });
  const sent = rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(300);
  expect(sent.outcome).toBe("settled");
});
