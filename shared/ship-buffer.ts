/** What audit-ship keeps in memory and who waits for it, within bounds: in all, and per tenant so that none fills everything. */
import type { AuditEntry } from "./audit.ts";
import { Problem } from "./problems.ts";
import type { Clock, ShipLimits } from "./ship-batch.ts";
import {
  bytesOf,
  createTenant,
  type Delivery,
  enqueue,
  find,
  forget,
  type Item,
  type Piece,
  type Stream,
  type Tenant,
} from "./ship-stream.ts";

/** full: no room. impatient: not settled in time. store: the outbox or the quarantine failed again and again. */
export type BusyReason = "full" | "impatient" | "store" | "stopping";

/** Come again: nothing is lost, the outbox has the entries. It is a 503, which brokers retry. */
export class Busy extends Problem {
  readonly reason: BusyReason;
  constructor(reason: BusyReason) {
    super("overloaded", { cause: reason });
    this.reason = reason;
  }
}

interface Options {
  readonly limits: ShipLimits;
  readonly clock: Clock;
  readonly sizeOf: (entry: AuditEntry) => number;
  readonly tell: (event: { type: "forgotten"; entries: number }) => void;
}

export interface ShipStats {
  /** Not settled: waiting, in flight, or stored and not yet deleted from the outbox. */
  readonly entries: number;
  readonly bytes: number;
  /** Calls of `accept` that wait. */
  readonly deliveries: number;
  readonly tenants: number;
  /** Tenants on hold. */
  readonly held: number;
  /** Milliseconds since the arrival of the entry that is here longest. */
  readonly oldestMs: number;
}

interface Added {
  readonly settled: Promise<void>;
  readonly touched: ReadonlySet<Stream>;
  /** Entries that joined one that waits already. */
  readonly duplicates: number;
}

export type ShipBuffer = ReturnType<typeof createShipBuffer>;

export function createShipBuffer({ limits, clock, sizeOf, tell }: Options) {
  const tenants = new Map<string, Tenant>();
  /** In the order of their deadlines. */
  const waiting = new Set<Delivery>();
  let entries = 0;
  /** Entries ever released without being settled. */
  let failed = 0;
  let onEmpty = (): void => {};
  let bytes = 0;
  let cancelExpiry: (() => void) | undefined;
  let evictedAt = Number.NEGATIVE_INFINITY;

  /** All of them or none. @throws {Busy} */
  function add(tenantId: string, arrived: readonly AuditEntry[]): Added {
    const sizes = arrived.map(sizeOf);
    const full = waiting.size >= limits.maxDeliveries || !makeRoom(tenants.get(tenantId), arrived, sizes);
    if (full) throw new Busy("full");
    const tenant = tenants.get(tenantId) ?? createTenant(tenantId);
    tenants.set(tenantId, tenant);

    const arrivedAt = clock.now();
    const { delivery, settled } = createDelivery(arrivedAt + limits.patienceMs, arrived.length);
    const waiters = [delivery];
    const touched = new Set<Stream>();
    let duplicates = 0;
    for (let i = 0; i < arrived.length; i++) {
      const entry = arrived[i] as AuditEntry;
      const present = find(tenant, entry);
      if (present !== undefined) {
        present.waiters = [...present.waiters.filter(({ done }) => !done), delivery];
        duplicates++;
        continue;
      }
      const size = sizes[i] as number;
      const item = { entry, bytes: size, arrivedAt, waiters, twin: undefined, strikes: 0, successesSeen: 0 };
      tenant.bytes += size;
      bytes += size;
      entries++;
      touched.add(enqueue(tenant, item));
    }
    waiting.add(delivery);
    cancelExpiry ??= clock.after(limits.patienceMs, expire);
    return { settled, touched, duplicates };
  }

  function makeRoom(
    tenant: Tenant | undefined,
    arrived: readonly AuditEntry[],
    sizes: readonly number[],
  ): boolean {
    if (fits(tenant, arrived.length, sum(sizes))) return true;
    // What is here already takes no room: when all is full, deliveries made again can still join.
    const fresh = sizes.filter(
      (_, i) => tenant === undefined || find(tenant, arrived[i] as AuditEntry) === undefined,
    );
    if (fits(tenant, fresh.length, sum(fresh))) return true;
    if (clock.now() - evictedAt < limits.evictEveryMs) return false;
    evict();
    return fits(tenant, fresh.length, sum(fresh));
  }

  const fits = (tenant: Tenant | undefined, count: number, size: number): boolean =>
    entries + count <= limits.maxEntries &&
    bytes + size <= limits.maxBytes &&
    (tenant?.items.size ?? 0) + count <= limits.tenantEntries &&
    (tenant?.bytes ?? 0) + size <= limits.tenantBytes;

  /**
   * Entries stay when their deliveries give up, so that what was learnt about them is not learnt again when they come back.
   * But not when somebody else needs the room: the outbox has them.
   */
  function evict(): void {
    evictedAt = clock.now();
    const before = entries;
    for (const tenant of tenants.values()) {
      for (const stream of tenant.streams.values()) {
        // A piece goes as a whole or stays as a whole: the same bytes are pushed again.
        const stays = (piece: Piece): boolean => stream.busy || piece.items.some(isAwaited);
        const gone = stream.pieces.filter((piece) => !stays(piece)).flatMap(({ items }) => items);
        const dropped = [...gone, ...stream.queue.filter((item) => !isAwaited(item))];
        stream.pieces = stream.pieces.filter(stays);
        stream.queue = stream.queue.filter(isAwaited);
        stream.queueBytes = bytesOf(stream.queue);
        for (const item of dropped) drop(tenant, item);
      }
      forgetIdle(tenant);
    }
    if (entries < before) tell({ type: "forgotten", entries: before - entries });
  }

  function drop(tenant: Tenant, item: Item): void {
    forget(tenant, item);
    tenant.bytes -= item.bytes;
    bytes -= item.bytes;
    entries--;
  }

  /** A tenant that backs off is remembered, or its entries would not when they come again. */
  function forgetIdle(tenant: Tenant): void {
    const idle = tenant.items.size === 0 && tenant.inFlight === 0 && tenant.notBefore <= clock.now();
    if (idle) tenants.delete(tenant.id);
  }

  function expire(): void {
    cancelExpiry = undefined;
    const now = clock.now();
    for (const delivery of waiting) {
      if (delivery.deadline > now) {
        cancelExpiry = clock.after(Math.ceil(delivery.deadline - now), expire);
        return;
      }
      giveUp(delivery, "impatient");
    }
  }

  function giveUp(delivery: Delivery, reason: BusyReason): void {
    if (delivery.done) return;
    finish(delivery);
    delivery.reject(new Busy(reason));
  }

  function finish(delivery: Delivery): void {
    delivery.done = true;
    waiting.delete(delivery);
  }

  /** The shipper is done with them. @param failure why they are not where they belong; absent: they are */
  function release(tenant: Tenant, items: readonly Item[], failure?: BusyReason): void {
    if (failure !== undefined) failed += items.length;
    for (const item of items) {
      drop(tenant, item);
      for (const delivery of item.waiters) {
        delivery.open--;
        if (failure !== undefined) giveUp(delivery, failure);
        if (delivery.open > 0 || delivery.done) continue;
        finish(delivery);
        delivery.resolve();
      }
    }
    forgetIdle(tenant);
    if (entries === 0) onEmpty();
  }

  /** Whether everything was settled within so many milliseconds. */
  function whenEmpty(milliseconds: number): Promise<boolean> {
    const failedBefore = failed;
    return new Promise((resolve) => {
      const cancel = clock.after(milliseconds, () => resolve(false));
      onEmpty = () => {
        cancel();
        resolve(failed === failedBefore);
      };
      if (entries === 0) onEmpty();
    });
  }

  function stop(): void {
    cancelExpiry?.();
    for (const delivery of waiting) giveUp(delivery, "stopping");
  }

  function stats(): ShipStats {
    let held = 0;
    let oldest = Number.POSITIVE_INFINITY;
    for (const tenant of tenants.values()) {
      if (tenant.held !== undefined) held++;
      const [first] = tenant.items.values();
      oldest = Math.min(oldest, first?.arrivedAt ?? oldest);
    }
    const oldestMs = entries === 0 ? 0 : clock.now() - oldest;
    return { entries, bytes, deliveries: waiting.size, tenants: tenants.size, held, oldestMs };
  }

  return { tenants, add, release, whenEmpty, stop, stats };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

const isAwaited = ({ waiters }: Item): boolean => waiters.some(({ done }) => !done);

function createDelivery(deadline: number, open: number): { delivery: Delivery; settled: Promise<void> } {
  let resolve = (): void => {};
  let reject = (_: Error): void => {};
  const settled = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { delivery: { deadline, resolve, reject, open, done: false }, settled };
}
