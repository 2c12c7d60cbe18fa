/** The relay against outboxes of which only what matters is real: what leaves them, and what stays. */
import { expect, test, vi } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import type { Outbox } from "../../shared/outbox.ts";
import { createRelay } from "../../shared/relay.ts";
import { entryOf, eventIdOf, MINUTE } from "../support/loki-tools.ts";

interface World {
  readonly count: number;
  /** Whether Loki takes an entry, so that it leaves the outbox. */
  readonly takes?: (entry: AuditEntry) => boolean;
  /** When it leaves: with the answer of the sink, or at the next look but one. */
  readonly late?: boolean;
  /** Milliseconds from one entry to the next, and since the last one. */
  readonly every?: number;
  readonly age?: number;
}

/** A tenant's outbox with so many entries, and a relay in front of it. */
function worldOf({ count, takes = () => true, late = false, every = 0, age = 10_000 }: World) {
  const since = Date.now() - age - (count - 1) * every;
  let waiting = Array.from({ length: count }, (_, i) =>
    entryOf({ seq: i + 1, id: eventIdOf(`entry ${i}`), tenant_id: "acme", at: since + i * every }),
  );
  const published: number[] = [];
  const looks: number[] = [];
  let onTheWay = new Set<AuditEntry>();
  let before = new Set<AuditEntry>();
  const oldest = async (end: number, limit: number) => {
    waiting = waiting.filter((entry) => !before.has(entry) || !takes(entry));
    if (!late) waiting = waiting.filter((entry) => !onTheWay.has(entry) || !takes(entry));
    before = onTheWay;
    onTheWay = new Set();
    looks.push(Math.min(limit, waiting.length));
    return waiting.slice(0, limit).filter(({ timestamp }) => Date.parse(timestamp) < end);
  };
  const outbox = {
    overdue: oldest,
    ofTenant: (_: string, end: number, limit: number) => oldest(end, limit),
  } as Partial<Outbox> as Outbox;
  const rounds: number[][] = [];
  const newPublisher = () => {
    const round: number[] = [];
    rounds.push(round);
    return {
      publish(entry: AuditEntry) {
        published.push(entry.seq);
        round.push(entry.seq);
        onTheWay.add(entry);
      },
      close: async () => true,
    };
  };
  const onError = vi.fn();
  const relay = createRelay({ outbox, newPublisher, onQuarantine: () => undefined, onError });
  return { relay, published, rounds, looks, left: () => waiting.map(({ seq }) => seq), onError };
}

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

test("one call publishes a backlog of any round's size, oldest first, each entry once", async () => {
  const { relay, published, left } = worldOf({ count: 45_000 });
  expect(await relay.publishOverdue()).toBe(45_000);
  expect([left(), published]).toEqual([[], upTo(45_000)]);
});

test("where the sink answers before Loki has anything, no more than one round is under way", async () => {
  vi.useFakeTimers();
  try {
    const { relay, published, left } = worldOf({ count: 25_000, late: true });
    const done = relay.publishOverdue();
    await vi.runAllTimersAsync();
    expect(await done).toBe(25_000);
    expect([left(), published]).toEqual([[], upTo(25_000)]);
  } finally {
    vi.useRealTimers();
  }
});

test("what is held up is published once a call, and ends it when nothing else is left", async () => {
  vi.useFakeTimers();
  try {
    const { relay, published, left, looks } = worldOf({ count: 12_000, takes: ({ seq }) => seq > 500 });
    const done = relay.publishOverdue();
    await vi.runAllTimersAsync();
    expect(await done).toBe(12_000);
    expect([left(), published]).toEqual([upTo(500), upTo(12_000)]);
    expect(looks.length).toBeLessThan(6);
  } finally {
    vi.useRealTimers();
  }
});

test("what is younger than five seconds is left to whoever has written it, unless its tenant asks for all", async () => {
  vi.useFakeTimers();
  try {
    const { relay, published } = worldOf({ count: 10, every: 1_000, age: 0 });
    // The last one is of now.
    const done = relay.publishOverdue();
    await vi.runAllTimersAsync();
    expect([await done, published]).toEqual([4, [1, 2, 3, 4]]);
    relay.startFor("acme");
    await vi.runAllTimersAsync();
    expect(published).toEqual(upTo(10));
  } finally {
    vi.useRealTimers();
  }
});

test("a round is of half an hour's entries: after an outage none of them has to wait for older ones on its way", async () => {
  const { relay, rounds, left } = worldOf({ count: 100, every: MINUTE });
  expect(await relay.publishOverdue()).toBe(100);
  expect(left()).toEqual([]);
  expect(rounds.map(({ length }) => length).filter(Boolean)).toEqual([31, 31, 31, 7]);
});

test("a call for a tenant publishes all of it, and one that comes meanwhile joins it", async () => {
  const { relay, published, left, onError } = worldOf({ count: 25_000 });
  const task = relay.startFor("acme");
  expect(relay.startFor("acme")).toBe(task);
  await expect.poll(left).toEqual([]);
  expect(published).toEqual(upTo(25_000));
  await expect.poll(() => relay.startFor("acme")).not.toBe(task);
  expect(onError).not.toHaveBeenCalled();
});
