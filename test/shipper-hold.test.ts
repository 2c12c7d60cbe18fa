/** audit-ship when Loki answers what no retry cures: the tenant waits until somebody has acted, and nobody else does. */
import { expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { createRig, entriesOf, entryOf } from "./support/shipper.ts";

test.each([200, 202, 260, 301, 401, 403, 404, 405, 422])(
  "%d holds the tenant: nothing is settled, one push in 30 s asks again, other tenants go on",
  async (status) => {
    const until = 10 * 60_000;
    const rig = createRig({ answer: ({ tenant, at }) => (tenant === "acme" && at < until ? status : 204) });
    const held = [
      rig.send("acme", entriesOf("acme", 1, 10)),
      rig.send("acme", entriesOf("acme", 11, 20, "get_key")),
    ];
    const other = rig.send("bolt", entriesOf("bolt", 1, 10));
    await rig.clock.advance(until);
    expect(held.map(({ outcome }) => outcome)).toEqual(["pending", "pending"]);
    expect([other.outcome, rig.stats().held, rig.eventsOf("held").length]).toEqual(["settled", 1, 1]);
    expect(rig.removed).toHaveLength(10);
    expect(rig.pushes.filter(({ tenant }) => tenant === "acme").length).toBeLessThanOrEqual(22);
    await rig.clock.advance(31_000);
    expect(held.map(({ outcome }) => outcome)).toEqual(["settled", "settled"]);
    expect([rig.stats().held, rig.eventsOf("released").length]).toEqual([0, 1]);
    expect(rig.eventsOf("bisected")).toEqual([]);
  },
);

test("what was under way before does not end it", async () => {
  const rig = createRig({
    answer: ({ action }) => (action === "get_key" ? { after: 1_000, status: 204 } : 401),
  });
  const sent = rig.send("acme", [entryOf("acme", 1, { action: "get_key" }), entryOf("acme", 2)]);
  await rig.clock.advance(1_400);
  expect([rig.removed, sent.outcome, rig.stats().held]).toEqual([["acme/1"], "pending", 1]);
  rig.send("acme", [entryOf("acme", 3, { action: "get_key" })]);
  await rig.clock.advance(20_000);
  expect(rig.pushes).toHaveLength(2);
});

test("an entry that cannot be encoded does not end it", async () => {
  const encode = (entries: readonly AuditEntry[]): string => {
    if (entries[0]?.action === "get_key") throw new TypeError("a cycle");
    return JSON.stringify(entries);
  };
  const rig = createRig({ answer: () => ({ after: 10, status: 401 }), encode });
  rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(10_000);
  rig.send("acme", [entryOf("acme", 2, { action: "get_key" })]);
  await rig.clock.advance(60_000);
  expect([rig.quarantined.length, rig.stats().held, rig.eventsOf("released")]).toEqual([1, 1, []]);
});

test("a 429 ends it: Loki knows the tenant again", async () => {
  const rig = createRig({ answer: ({ at }) => (at < 1_000 ? 401 : 429) });
  rig.send("acme", [entryOf("acme", 1)]);
  await rig.clock.advance(31_000);
  expect([rig.stats().held, rig.eventsOf("released").length]).toEqual([0, 1]);
});

test("a 429 to what was under way before does not end it", async () => {
  const rig = createRig({
    answer: ({ action }) => (action === "get_key" ? { after: 1_000, status: 429 } : 401),
  });
  rig.send("acme", [entryOf("acme", 1, { action: "get_key" }), entryOf("acme", 2)]);
  await rig.clock.advance(5_000);
  expect([rig.stats().held, rig.eventsOf("released")]).toEqual([1, []]);
});
