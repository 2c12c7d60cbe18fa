/** What follows from Loki's answer to a push: settle, go again, halve, quarantine, hold the tenant. */
import type { AuditEntry } from "./audit.ts";
import {
  backoff,
  type Clock,
  type PushAnswer,
  type RefusalClass,
  refusalOf,
  type ShipLimits,
  UNENCODABLE,
  verdictOf,
} from "./ship-batch.ts";
import type { BusyReason, ShipBuffer } from "./ship-buffer.ts";
import { bytesOf, halve, type Item, type Piece, replace, type Stream, type Tenant } from "./ship-stream.ts";

/** Where entries go that leave the shipper. Each may reject, and is then called again. */
export interface Stores {
  /** Deletes from the outbox. Deleting what is not there is no error. */
  readonly remove: (tenantId: string, entries: readonly AuditEntry[]) => Promise<unknown>;
  /**
   * Keeps an entry that Loki will never take. Keeping it twice is no error. `remove` comes after it.
   * Answers false when it is not kept, because the outbox does not hold it.
   */
  readonly quarantine: (tenantId: string, entry: AuditEntry, reason: string) => Promise<boolean>;
  /** Whether Loki has an entry that it refuses for its age. Absent: it is taken not to. */
  readonly isStored?: (tenantId: string, entry: AuditEntry) => Promise<boolean>;
}

export type ShipperEvent =
  | { type: "received"; tenantId: string; entries: number; duplicates: number }
  | { type: "refused"; tenantId: string; entries: number; reason: BusyReason }
  | { type: "push"; tenantId: string; status: number; seconds: number; entries: number }
  | { type: "shipped"; tenantId: string; entries: number }
  /** The same bytes go again, later. */
  | { type: "retried"; tenantId: string; status: number }
  | { type: "bisected"; tenantId: string; status: number; entries: number }
  | { type: "quarantined"; tenantId: string; entry: AuditEntry; class: RefusalClass; reason: string }
  | { type: "held"; tenantId: string; status: number; text: string }
  | { type: "released"; tenantId: string }
  | { type: "store_failed"; tenantId: string; operation: keyof Stores; error: unknown }
  /** Dropped for want of room after nobody waited for them any longer. The outbox has them. */
  | { type: "forgotten"; entries: number };

interface Options {
  readonly stores: Stores;
  readonly limits: ShipLimits;
  readonly clock: Clock;
  readonly buffer: ShipBuffer;
  readonly tell: (event: ShipperEvent) => void;
}

/** What an operation on a store answers that failed again and again. */
const FAILED = Symbol("failed");

export function createOutcome({ stores, limits, clock, buffer, tell }: Options) {
  const sleepers = new Set<() => void>();
  let stopped = false;

  /** @param current no setback of the tenant since the push began, so that what it says is news */
  async function follow(stream: Stream, piece: Piece, answer: PushAnswer, current: boolean): Promise<void> {
    const { tenant } = stream;
    switch (verdictOf(answer.status)) {
      case "stored":
        stream.successes++;
        tenant.stored++;
        recover(stream, current);
        return settle(stream, piece);
      case "refused":
        if (answer.status !== UNENCODABLE) recover(stream, current);
        // Halves go at once: every push of them takes half of what is in doubt out of it.
        if (piece.items.length > 1) return bisect(stream, piece, answer);
        return condemn(stream, piece, answer);
      case "again":
        tenant.ailing = true;
        return goAgain(stream, piece, answer);
      case "throttled":
        if (current) release(tenant);
        return slowDown(stream, piece, answer, current);
      case "hold":
        if (tenant.held === undefined) tell({ type: "held", tenantId: tenant.id, ...answer });
        tenant.held = answer.status;
        return setBack(tenant, limits.holdMs);
    }
  }

  /** Loki understood a push of this stream. */
  function recover(stream: Stream, current: boolean): void {
    stream.failures = 0;
    stream.tenant.ailing = false;
    if (!current) return;
    stream.tenant.throttles = 0;
    release(stream.tenant);
  }

  function release(tenant: Tenant): void {
    if (tenant.held === undefined) return;
    tenant.held = undefined;
    tell({ type: "released", tenantId: tenant.id });
  }

  function setBack(tenant: Tenant, wait: number): void {
    tenant.ailing = true;
    tenant.epoch++;
    tenant.notBefore = Math.max(tenant.notBefore, clock.now() + wait);
  }

  function bisect(stream: Stream, piece: Piece, { status }: PushAnswer, attempts = 0): void {
    tell({ type: "bisected", tenantId: stream.tenant.id, status, entries: piece.items.length });
    halve(stream, piece, attempts);
  }

  /**
   * An outage and a batch that Loki can never take look the same. So halve what keeps failing, down to one entry, which
   * costs an outage a dozen pushes; then let others pass that one, ever more slowly until one of them is taken.
   */
  async function goAgain(stream: Stream, piece: Piece, answer: PushAnswer): Promise<void> {
    piece.attempts++;
    const single = piece.items.length === 1;
    const descending = !stream.pieces.some(({ aside }) => aside);
    // One that comes after an entry that was set aside need not fail as often: poison side by side is no shield.
    const repeated = piece.attempts >= limits.repeats || (single && !descending);
    const halving = repeated && !single;
    stream.failures = halving && descending ? 0 : stream.failures + 1;
    stream.notBefore = clock.now() + wait(Math.max(1, stream.failures));
    if (halving) return bisect(stream, piece, answer, limits.repeats - 1);
    if (repeated && isStruckOut(stream, piece)) return condemn(stream, piece, answer);
    if (repeated) {
      if (piece.aside && stream.tenant.stored > piece.storedSeen) piece.alone++;
      piece.storedSeen = stream.tenant.stored;
      setAside(piece, stream.notBefore + wait(piece.attempts));
    }
    tell({ type: "retried", tenantId: stream.tenant.id, status: answer.status });
  }

  /** Failing while nothing else of the stream is stored either proves nothing about an entry. */
  function isStruckOut({ successes }: Stream, { aside, items: [item] }: Piece): boolean {
    if (item === undefined) return false;
    if (aside && successes > item.successesSeen) item.strikes++;
    item.successesSeen = successes;
    return item.strikes >= limits.strikes;
  }

  function setAside(piece: Piece, until: number): void {
    piece.aside = true;
    piece.notBefore = until;
  }

  /**
   * The whole tenant waits: its rate is what was exceeded. A batch above the burst is told so for ever, so halve it,
   * but slowly and to a floor: each wait makes room for more, and smaller pushes would only cost more. Never a reason to quarantine.
   */
  function slowDown(stream: Stream, piece: Piece, answer: PushAnswer, current: boolean): void {
    const { tenant } = stream;
    if (current) tenant.throttles++;
    const asked = answer.retryAfterMs ?? wait(Math.max(1, tenant.throttles));
    setBack(tenant, Math.min(limits.retryMaxMs, Math.max(limits.retryMinMs, asked)));
    piece.throttles++;
    const halvable = piece.items.length > 1 && bytesOf(piece.items) > limits.throttleFloorBytes;
    if (halvable && piece.throttles >= limits.repeats) {
      bisect(stream, piece, answer);
      return;
    }
    if (piece.throttles >= limits.throttleRepeats) setAside(piece, tenant.notBefore + wait(piece.throttles));
    tell({ type: "retried", tenantId: tenant.id, status: answer.status });
  }

  const wait = (failures: number): number => backoff(failures, clock.random(), limits);

  /** One entry that cannot be pushed: kept elsewhere with the reason, so that the outbox need not keep it. */
  async function condemn(stream: Stream, piece: Piece, answer: PushAnswer): Promise<void> {
    const { id } = stream.tenant;
    const { entry } = piece.items[0] as Item;
    const { class: name, reason, maybeStored } = refusalOf(answer, limits);
    if (maybeStored) {
      const stored = await insist(id, "isStored", async () => stores.isStored?.(id, entry));
      if (stored === FAILED) return giveUp(stream, piece);
      if (stored === true) return settle(stream, piece);
    }
    const kept = await insist(id, "quarantine", () => stores.quarantine(id, entry, reason));
    if (kept === FAILED) return giveUp(stream, piece);
    if (kept) tell({ type: "quarantined", tenantId: id, entry, class: name, reason });
    await leave(stream, piece);
  }

  async function settle(stream: Stream, piece: Piece): Promise<void> {
    const entries = piece.items.length;
    if (await leave(stream, piece)) tell({ type: "shipped", tenantId: stream.tenant.id, entries });
  }

  /** The stream's next push waits for it: while the outbox cannot be reached, nothing could be settled anyway. */
  async function leave(stream: Stream, piece: Piece): Promise<boolean> {
    const { id } = stream.tenant;
    const entries = piece.items.map(({ entry }) => entry);
    if ((await insist(id, "remove", () => stores.remove(id, entries))) === FAILED) {
      giveUp(stream, piece);
      return false;
    }
    replace(stream, piece);
    buffer.release(stream.tenant, piece.items);
    return true;
  }

  /** They are still in the outbox and come again; a second push of what is stored is an exact duplicate. */
  function giveUp(stream: Stream, piece: Piece): void {
    if (stopped) return;
    replace(stream, piece);
    buffer.release(stream.tenant, piece.items, "store");
  }

  async function insist<T>(
    tenantId: string,
    operation: keyof Stores,
    run: () => Promise<T>,
  ): Promise<T | typeof FAILED> {
    for (let tries = 1; ; tries++) {
      try {
        return await run();
      } catch (error) {
        tell({ type: "store_failed", tenantId, operation, error });
        if (tries >= limits.storeTries || stopped) return FAILED;
        await sleep(wait(tries));
      }
    }
  }

  function sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const awake = (): void => {
        cancel();
        sleepers.delete(awake);
        resolve();
      };
      const cancel = clock.after(milliseconds, awake);
      sleepers.add(awake);
    });
  }

  /** No more tries; what they were about stays unsettled. */
  function stop(): void {
    stopped = true;
    for (const awake of sleepers) awake();
  }

  return { follow, stop };
}
