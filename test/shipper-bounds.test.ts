/** audit-ship's bounds: what it holds, who gets a turn, how long anybody waits. */
import { describe, expect, test } from "vitest";
import { createRig, entriesOf, entryOf, type Push } from "./support/shipper.ts";

const HOUR = 3_600_000;
const never = { after: 100 * HOUR, status: 204 };

describe("room", () => {
  test("a tenant that filled its share is told to come again at once, and others are not", async () => {
    const rig = createRig({
      answer: ({ tenant }) => (tenant === "acme" ? 401 : 204),
      limits: { tenantEntries: 10 },
    });
    rig.send("acme", entriesOf("acme", 1, 10));
    const refused = rig.send("acme", [entryOf("acme", 11)]);
    const other = rig.send("bolt", entriesOf("bolt", 1, 10));
    await rig.clock.advance(0);
    expect(refused.outcome).toBe("full");
    expect(rig.eventsOf("refused")).toEqual([
      { type: "refused", tenantId: "acme", entries: 1, reason: "full" },
    ]);
    await rig.clock.advance(300);
    expect(other.outcome).toBe("settled");
  });

  test.each([
    ["entries of a tenant", { tenantEntries: 10 }],
    ["bytes of a tenant", { tenantBytes: 1_000 }],
    ["entries in all", { maxEntries: 10 }],
    ["bytes in all", { maxBytes: 1_000 }],
  ])("%s are bounded exactly, and what left makes room again", async (_, limits) => {
    const rig = createRig({ limits });
    const sent = [rig.send("acme", entriesOf("acme", 1, 6)), rig.send("acme", entriesOf("acme", 7, 11))];
    sent.push(rig.send("acme", entriesOf("acme", 12, 15)));
    await rig.clock.advance(0);
    expect(sent.map(({ outcome }) => outcome)).toEqual(["pending", "full", "pending"]);
    expect(rig.stats()).toMatchObject({ entries: 10, bytes: 1_000 });
    await rig.clock.advance(300);
    sent.push(rig.send("acme", entriesOf("acme", 16, 25)));
    await rig.clock.advance(300);
    expect(sent.map(({ outcome }) => outcome)).toEqual(["settled", "full", "settled", "settled"]);
    expect(rig.stats()).toEqual({ entries: 0, bytes: 0, deliveries: 0, tenants: 0, held: 0, oldestMs: 0 });
  });

  test("a delivery that comes again joins although everything is full", async () => {
    const rig = createRig({ limits: { tenantEntries: 10 } });
    const sent = [1, 2].map(() => rig.send("acme", entriesOf("acme", 1, 10)));
    await rig.clock.advance(300);
    expect(sent.map(({ outcome }) => outcome)).toEqual(["settled", "settled"]);
  });

  test("waiting deliveries are bounded", async () => {
    const rig = createRig({ limits: { maxDeliveries: 2 } });
    const sent = [1, 2, 3].map(() => rig.send("acme", [entryOf("acme", 1)]));
    await rig.clock.advance(0);
    expect(sent.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "full"]);
  });

  test("tenants that nobody waits for any longer make room for one that somebody waits for", async () => {
    const rig = createRig({
      answer: ({ tenant }) => (tenant.startsWith("held") ? 403 : 204),
      limits: { maxEntries: 30, patienceMs: 5_000 },
    });
    for (const tenant of ["held-1", "held-2", "held-3"]) rig.send(tenant, entriesOf(tenant, 1, 10));
    await rig.clock.advance(4_000);
    const early = rig.send("acme", entriesOf("acme", 1, 10));
    await rig.clock.advance(2_000);
    expect([early.outcome, rig.stats().entries]).toEqual(["full", 30]);
    const late = rig.send("acme", entriesOf("acme", 1, 10));
    await rig.clock.advance(300);
    expect(late.outcome).toBe("settled");
    expect(rig.eventsOf("forgotten")).toEqual([{ type: "forgotten", entries: 30 }]);
    // They are on hold all the same: what comes for them waits for its turn.
    const asked = rig.pushes.length;
    rig.send("held-1", entriesOf("held-1", 1, 10));
    await rig.clock.advance(4_000);
    expect(rig.pushes.length).toBe(asked);
  });

  test("who finds no room looks for what nobody waits for once a second, not for each delivery", async () => {
    const rig = createRig({ answer: () => 403, limits: { maxEntries: 10, patienceMs: 600 } });
    rig.send("held", entriesOf("held", 1, 10));
    const send = async () => {
      const sent = rig.send("acme", [entryOf("acme", 1)]);
      await rig.clock.advance(0);
      return sent.outcome;
    };
    await rig.clock.advance(500);
    expect(await send()).toBe("full");
    await rig.clock.advance(999);
    expect(await send()).toBe("full");
    await rig.clock.advance(1);
    expect(await send()).toBe("pending");
  });

  test("what is in flight is not dropped, and counted once", async () => {
    const answer = ({ tenant }: Push) => (tenant === "acme" ? { after: 10_000, status: 204 } : 204);
    const rig = createRig({ answer, limits: { maxEntries: 10, patienceMs: 1_000 } });
    rig.send("acme", entriesOf("acme", 1, 10));
    await rig.clock.advance(5_000);
    const refused = rig.send("bolt", [entryOf("bolt", 1)]);
    await rig.clock.advance(10_000);
    expect([refused.outcome, rig.removed.length]).toEqual(["full", 10]);
    expect(rig.stats()).toMatchObject({ entries: 0, bytes: 0, tenants: 0 });
  });

  test("what was dropped does not count for the next batch", async () => {
    const rig = createRig({
      answer: ({ tenant }) => (tenant === "acme" ? 403 : 204),
      sizeOf: () => 100_000,
      limits: { maxEntries: 10, patienceMs: 1_000 },
    });
    rig.send("acme", [entryOf("acme", 1)]);
    await rig.clock.advance(1_000);
    rig.send("acme", entriesOf("acme", 2, 10));
    await rig.clock.advance(2_000);
    rig.send("bolt", [entryOf("bolt", 1)]);
    await rig.clock.advance(27_200);
    rig.send("acme", entriesOf("acme", 11, 12));
    await rig.clock.advance(1_000);
    expect(rig.pushes.filter(({ tenant }) => tenant === "acme").map(({ at }) => at)).toEqual([300, 30_500]);
  });

  test("what somebody waits for is never dropped for others", async () => {
    const rig = createRig({ answer: () => 403, limits: { maxEntries: 10, patienceMs: 60_000 } });
    const first = rig.send("acme", entriesOf("acme", 1, 10));
    await rig.clock.advance(10_000);
    const second = rig.send("bolt", [entryOf("bolt", 1)]);
    await rig.clock.advance(0);
    expect([first.outcome, second.outcome, rig.stats().entries]).toEqual(["pending", "full", 10]);
  });
});

describe("patience", () => {
  test("a delivery that is not settled in time is told to come again, and its entries are shipped all the same", async () => {
    const rig = createRig({ answer: () => ({ after: 6_000, status: 204 }), limits: { patienceMs: 5_000 } });
    const first = rig.send("acme", [entryOf("acme", 1)]);
    await rig.clock.advance(3_000);
    const again = rig.send("acme", [entryOf("acme", 1)]);
    await rig.clock.advance(2_000);
    expect([first.outcome, again.outcome]).toEqual(["impatient", "pending"]);
    await rig.clock.advance(1_300);
    expect([again.outcome, rig.removed, rig.pushes.length]).toEqual(["settled", ["acme/1"], 1]);
  });

  test("deliveries that come again and again for an hour do not pile up", async () => {
    const rig = createRig({ answer: () => 503, limits: { patienceMs: 5_000 } });
    for (let time = 0; time < HOUR; time += 6_000) {
      rig.send("acme", entriesOf("acme", 1, 10));
      await rig.clock.advance(6_000);
    }
    expect(rig.stats()).toMatchObject({ entries: 10, deliveries: 0, tenants: 1 });
  });
});

describe("turns", () => {
  test("sixteen pushes are under way at most, four of one tenant", async () => {
    const actions = ["create_key", "get_key", "update_key", "delete_key", "list_audit", "get_user"] as const;
    const rig = createRig({ answer: () => ({ after: 1_000, status: 204 }) });
    for (const [seq, action] of actions.entries())
      for (let i = 0; i < 30; i++) rig.send(`tenant-${i}`, [entryOf(`tenant-${i}`, seq + 1, { action })]);
    await rig.clock.advance(300);
    expect(rig.pushes.map(({ tenant }) => tenant)).toEqual(
      Array.from({ length: 16 }, (_, i) => `tenant-${i}`),
    );
    await rig.clock.advance(60_000);
    expect([rig.most.total, rig.removed.length]).toEqual([16, 180]);

    const alone = createRig({ answer: () => never });
    for (const [seq, action] of actions.entries()) alone.send("acme", [entryOf("acme", seq + 1, { action })]);
    await alone.clock.advance(60_000);
    expect(alone.pushes).toHaveLength(4);
  });

  test("a tenant with a hundred batches does not delay one with one", async () => {
    const rig = createRig({
      answer: () => ({ after: 100, status: 204 }),
      limits: { batchEntries: 10, pushes: 1 },
    });
    rig.send("acme", entriesOf("acme", 1, 1_000));
    await rig.clock.advance(1_000);
    const small = rig.send("bolt", [entryOf("bolt", 1)]);
    await rig.clock.advance(300 + 200);
    expect(small.outcome).toBe("settled");
  });

  test.each([500, 401, 429])(
    "many tenants whose pushes take 10 s until they are told %d leave room for one whose pushes do not",
    async (status) => {
      const rig = createRig({
        answer: ({ tenant }) => (tenant === "acme" ? 204 : { after: 10_000, status }),
      });
      for (let i = 0; i < 60; i++) rig.send(`hung-${i}`, entriesOf(`hung-${i}`, 1, 100));
      // The first push of each finds out, sixteen at a time.
      await rig.clock.advance(41_000);
      for (let seq = 1; seq < 300; seq++) {
        const sent = rig.send("acme", [entryOf("acme", seq)]);
        await rig.clock.advance(301);
        expect(sent.outcome).toBe("settled");
      }
    },
  );

  test("a stream whose pushes hang leaves room for the tenant's other streams", async () => {
    const rig = createRig({
      answer: ({ action }) => (action === "get_key" ? { after: 10_000, status: 500 } : 204),
    });
    rig.send("acme", entriesOf("acme", 1, 100, "get_key"));
    for (let seq = 101; seq < 200; seq++) {
      const sent = rig.send("acme", [entryOf("acme", seq)]);
      await rig.clock.advance(1_000);
      expect(sent.outcome).toBe("settled");
    }
  });
});

test("what is held, and for how long, can be asked", async () => {
  const rig = createRig({ answer: ({ tenant }) => (tenant === "acme" ? 401 : never) });
  rig.send("acme", entriesOf("acme", 1, 10));
  await rig.clock.advance(5_000);
  rig.send("bolt", entriesOf("bolt", 1, 10));
  await rig.clock.advance(1_000);
  expect(rig.stats()).toEqual({
    entries: 20,
    bytes: 2_000,
    deliveries: 2,
    tenants: 2,
    held: 1,
    oldestMs: 6_000,
  });
});
