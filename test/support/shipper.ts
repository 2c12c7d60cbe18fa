/** A shipper between doubles: time that is advanced by hand, a Loki that answers what the test says, an outbox, a quarantine. */
import type { AuditAction, AuditEntry } from "../../shared/audit.ts";
import type { Clock, PushAnswer, ShipLimits } from "../../shared/ship-batch.ts";
import { Busy } from "../../shared/ship-buffer.ts";
import type { ShipperEvent } from "../../shared/ship-outcome.ts";
import { createShipper, type Shipper } from "../../shared/shipper.ts";
import { entryOf as anEntry } from "./loki-tools.ts";

export const entryOf = (
  tenant_id: string,
  seq: number,
  given: { action?: AuditAction; id?: string } = {},
): AuditEntry => anEntry({ tenant_id, seq, action: "create_key", at: 0, ...given });

/** Entries `first` to `last` of a tenant. */
export const entriesOf = (tenant: string, first: number, last: number, action?: AuditAction): AuditEntry[] =>
  Array.from({ length: last - first + 1 }, (_, i) =>
    entryOf(tenant, first + i, action === undefined ? {} : { action }),
  );

interface TestClock extends Clock {
  /** Lets everything happen that happens within so many milliseconds, in order. */
  advance(milliseconds: number): Promise<void>;
}

/** @param random 0.5 unless told, so that times can be predicted */
function createTestClock(random: () => number = () => 0.5): TestClock {
  let now = 0;
  const timers = new Set<{ at: number; run: () => void }>();
  // Everything that promises have to do is done before setImmediate's turn.
  const quiet = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    now: () => now,
    random,
    after(milliseconds, run) {
      const timer = { at: now + milliseconds, run };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    async advance(milliseconds) {
      const end = now + milliseconds;
      for (;;) {
        await quiet();
        const [soonest] = [...timers].sort((a, b) => a.at - b.at);
        if (soonest === undefined || soonest.at > end) break;
        timers.delete(soonest);
        now = soonest.at;
        soonest.run();
      }
      now = end;
    },
  };
}

export interface Push {
  readonly tenant: string;
  readonly action: string;
  readonly seqs: readonly number[];
  readonly body: string;
  readonly at: number;
  /** undefined until it is answered. */
  status?: number;
}

/** A status, an answer, or no answer at all; a delay in milliseconds comes before it. */
export type Answer = number | PushAnswer | "no answer" | { after: number; status: number };

interface RigOptions {
  readonly answer?: (push: Push) => Answer;
  readonly remove?: (tenant: string, seqs: readonly number[]) => Promise<unknown>;
  /** Answers false for an entry that is not in the outbox. */
  readonly quarantine?: (tenant: string, entry: AuditEntry, reason: string) => Promise<unknown>;
  readonly isStored?: (tenant: string, entry: AuditEntry) => Promise<boolean>;
  readonly encode?: (entries: readonly AuditEntry[]) => string;
  /** 100 bytes each unless told, so that batches close at 5,000 entries. */
  readonly sizeOf?: (entry: AuditEntry) => number;
  readonly observe?: (event: ShipperEvent) => void;
  readonly limits?: Partial<ShipLimits>;
  readonly random?: () => number;
}

type Outcome = "pending" | "settled" | Busy["reason"];

export interface Rig extends Shipper {
  readonly clock: TestClock;
  readonly pushes: Push[];
  /** `tenant/seq` of what was deleted from the outbox, in order. */
  readonly removed: string[];
  readonly quarantined: { tenant: string; seq: number; reason: string }[];
  readonly events: ShipperEvent[];
  /** Most pushes that were under way together: of one stream, and of all. */
  readonly most: { stream: number; total: number };
  eventsOf<T extends ShipperEvent["type"]>(type: T): Extract<ShipperEvent, { type: T }>[];
  /** `accept`, and what has become of it by now. */
  send(tenant: string, entries: readonly AuditEntry[]): { outcome: Outcome };
}

export function createRig(options: RigOptions = {}): Rig {
  const clock = createTestClock(options.random);
  const pushes: Push[] = [];
  const removed: string[] = [];
  const quarantined: Rig["quarantined"] = [];
  const events: ShipperEvent[] = [];
  const most = { stream: 0, total: 0 };
  const under = new Map<string, number>();

  async function push(tenant: string, body: string): Promise<PushAnswer> {
    const entries = JSON.parse(body) as Pick<AuditEntry, "action" | "seq">[];
    const action = String(entries[0]?.action);
    const one: Push = { tenant, action, seqs: entries.map(({ seq }) => seq), body, at: clock.now() };
    pushes.push(one);
    const change = (key: string, by: number): number => {
      under.set(key, (under.get(key) ?? 0) + by);
      return under.get(key) ?? 0;
    };
    most.stream = Math.max(most.stream, change(`${tenant}/${action}`, 1));
    most.total = Math.max(most.total, change("", 1));
    const answer = (options.answer ?? (() => 204))(one);
    if (typeof answer === "object" && "after" in answer)
      await new Promise<void>((resolve) => clock.after(answer.after, resolve));
    await undefined;
    change(`${tenant}/${action}`, -1);
    change("", -1);
    one.status = answer === "no answer" ? 0 : typeof answer === "number" ? answer : answer.status;
    if (one.status === 0) throw new Error("connection reset");
    return typeof answer === "object" && "text" in answer ? answer : { status: one.status, text: "" };
  }

  const shipper = createShipper({
    push,
    encode: (entries) => JSON.stringify(entries.map(({ seq, action, id }) => ({ seq, action, id }))),
    async remove(tenant, entries) {
      const seqs = entries.map(({ seq }) => seq);
      await options.remove?.(tenant, seqs);
      for (const seq of seqs) removed.push(`${tenant}/${seq}`);
    },
    async quarantine(tenant, entry, reason) {
      const kept = (await options.quarantine?.(tenant, entry, reason)) !== false;
      if (kept) quarantined.push({ tenant, seq: entry.seq, reason });
      return kept;
    },
    sizeOf: options.sizeOf ?? (() => 100),
    clock,
    limits: { patienceMs: Number.MAX_SAFE_INTEGER, ...options.limits },
    observe(event) {
      events.push(event);
      options.observe?.(event);
    },
    ...(options.encode === undefined ? {} : { encode: options.encode }),
    ...(options.isStored === undefined ? {} : { isStored: options.isStored }),
  });

  return {
    ...shipper,
    clock,
    pushes,
    removed,
    quarantined,
    events,
    most,
    eventsOf: <T extends ShipperEvent["type"]>(type: T) =>
      events.filter((event): event is Extract<ShipperEvent, { type: T }> => event.type === type),
    send(tenant, entries) {
      const sent: { outcome: Outcome } = { outcome: "pending" };
      shipper.accept(tenant, entries).then(
        () => {
          sent.outcome = "settled";
        },
        (error) => {
          if (!(error instanceof Busy)) throw error;
          sent.outcome = error.reason;
        },
      );
      return sent;
    },
  };
}
