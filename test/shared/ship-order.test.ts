/** Oldest first: what happens now against what has waited since the beginning of an outage. */
import { expect, test, vi } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { Busy } from "../../shared/ship-buffer.ts";
import { inOrder } from "../../shared/ship-order.ts";
import { entryOf, HOUR, MINUTE } from "../support/loki-tools.ts";

const now = Date.now();

/** An outbox with entries so many minutes old, and a shipper that does with each delivery what `ship` says. */
function worldOf(minutes: readonly number[], ship = async (_: readonly AuditEntry[]): Promise<void> => {}) {
  const waiting = minutes.map((age, i) => entryOf({ seq: i + 1, at: now - age * MINUTE }));
  const accepted: number[][] = [];
  const ofTenant = vi.fn(async (_: string, before: number, limit: number) =>
    waiting.slice(0, limit).filter(({ timestamp }) => Date.parse(timestamp) < before),
  );
  const accept = inOrder(
    async (_, entries) => {
      await ship(entries);
      accepted.push(entries.map(({ seq }) => seq));
    },
    { ofTenant, waitingSince: async () => Date.parse(waiting[0]?.timestamp ?? "") },
  );
  return { accepted, ofTenant, send: (entry: AuditEntry) => accept("tenant1", [entry]) };
}

const fresh = (seq: number) => entryOf({ seq, at: now });
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("what has waited for half an hour less than an entry does not concern it", async () => {
  const { accepted, ofTenant, send } = worldOf([29, 5, 0]);
  await send(fresh(3));
  expect([accepted, ofTenant.mock.calls]).toEqual([[[3]], []]);
});

test("what has waited for longer goes in front of it", async () => {
  const { accepted, send } = worldOf([180, 90, 31, 29, 0]);
  await send(fresh(5));
  expect(accepted).toEqual([[1, 2, 3], [5]]);
});

test("an older entry that cannot be settled does not hold it up", async () => {
  const { accepted, send } = worldOf([180, 0], ([entry]) =>
    entry?.seq === 1 ? new Promise(() => {}) : Promise.resolve(),
  );
  await send(fresh(2));
  expect(accepted).toEqual([[2]]);
});

test("while there is no room for the older ones there is none for it", async () => {
  const { accepted, send } = worldOf([180, 0], async ([entry]) => {
    if (entry?.seq === 1) throw new Busy("full");
  });
  await expect(send(fresh(2))).rejects.toThrow(Busy);
  expect(accepted).toEqual([]);
});

test("of more than a thousand the oldest thousand are shipped, and it is left to the outbox", async () => {
  const { accepted, send } = worldOf([...Array.from({ length: 1_500 }, () => 2 * (HOUR / MINUTE)), 0]);
  await send(fresh(1_501));
  expect(accepted).toEqual([range(1, 1_000)]);
});

test("deliveries of one second look for older ones once", async () => {
  vi.useFakeTimers({ now });
  try {
    const { accepted, ofTenant, send } = worldOf([180, 0, 0, 0]);
    await Promise.all([send(fresh(2)), send(fresh(3))]);
    await vi.advanceTimersByTimeAsync(999);
    await send(fresh(4));
    expect([ofTenant.mock.calls.length, accepted]).toEqual([1, [[1], [2], [3], [4]]]);
    await vi.advanceTimersByTimeAsync(1);
    await send(fresh(5));
    expect(ofTenant).toHaveBeenCalledTimes(2);
  } finally {
    vi.useRealTimers();
  }
});
