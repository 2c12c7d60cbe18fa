/** How audit-ship stops: what it has goes out, within the deadline. */
import { expect, test } from "vitest";
import { createRig, entriesOf, entryOf } from "./support/shipper.ts";

const HOUR = 3_600_000;

test("nothing is accepted any more, what lingers goes at once, and it says that all is done", async () => {
  const rig = createRig({ answer: () => ({ after: 1_000, status: 204 }) });
  const sent = [rig.send("acme", entriesOf("acme", 1, 10)), rig.send("bolt", entriesOf("bolt", 1, 10))];
  await rig.clock.advance(10);
  const closed = rig.close(20_000);
  const late = rig.send("acme", [entryOf("acme", 11)]);
  await rig.clock.advance(1_000);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["settled", "settled"]);
  expect(late.outcome).toBe("stopping");
  await expect(closed).resolves.toBe(true);
  expect(rig.pushes.map(({ at }) => at)).toEqual([10, 10]);
});

test("with nothing to do it is done at once, and closing twice is closing once", async () => {
  const rig = createRig();
  const closed = rig.close(20_000);
  expect(rig.close(1)).toBe(closed);
  await expect(closed).resolves.toBe(true);
});

test("at the deadline it gives up: deliveries are told to come again, nothing is pushed or removed any more", async () => {
  const rig = createRig({
    answer: ({ tenant }) => (tenant === "acme" ? 503 : 204),
    remove: () => Promise.reject(),
  });
  const sent = [rig.send("acme", entriesOf("acme", 1, 10)), rig.send("bolt", entriesOf("bolt", 1, 10))];
  await rig.clock.advance(1_000);
  const closed = rig.close(20_000);
  await rig.clock.advance(19_999);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["pending", "pending"]);
  await rig.clock.advance(1);
  await expect(closed).resolves.toBe(false);
  expect(sent.map(({ outcome }) => outcome)).toEqual(["stopping", "stopping"]);
  const [pushes, tries] = [rig.pushes.length, rig.eventsOf("store_failed").length];
  await rig.clock.advance(HOUR);
  expect([rig.pushes.length, rig.eventsOf("store_failed").length - tries]).toEqual([pushes, 0]);
  expect(rig.removed).toEqual([]);
});

test("entries that could not be removed while closing are not called done", async () => {
  const rig = createRig({ remove: () => Promise.reject(), limits: { storeTries: 2 } });
  rig.send("acme", [entryOf("acme", 1)]);
  const closed = rig.close(20_000);
  await rig.clock.advance(10_000);
  await expect(closed).resolves.toBe(false);
});
