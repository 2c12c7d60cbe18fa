/**
 * audit-ship's heart: entries in, batches to Loki, settled when Loki has them and the outbox does not need them any longer.
 * One push in flight per stream, oldest first; tenants take turns and never wait for each other. No I/O of its own.
 */
import type { AuditEntry } from "./audit.ts";
import {
  approximateBytes,
  type Clock,
  exceeds,
  type PushAnswer,
  type ShipLimits,
  shipLimits,
  UNENCODABLE,
} from "./ship-batch.ts";
import { Busy, createShipBuffer, type ShipStats } from "./ship-buffer.ts";
import { createOutcome, type ShipperEvent, type Stores } from "./ship-outcome.ts";
import { dueAt, halve, next, type Piece, type Stream, type Tenant } from "./ship-stream.ts";

interface Ports extends Stores {
  /** One stream to Loki. A rejection means that no answer came. */
  readonly push: (tenantId: string, body: string) => Promise<PushAnswer>;
  /** Body of a push; a function of the entries alone, so that a resend is the same bytes. */
  readonly encode: (entries: readonly AuditEntry[]) => string;
  /** Bytes that an entry takes in a push, rather more than less. */
  readonly sizeOf?: (entry: AuditEntry) => number;
  readonly observe?: (event: ShipperEvent) => void;
  readonly limits?: Partial<ShipLimits>;
  readonly clock?: Clock;
}

export interface Shipper {
  /**
   * Resolves when every entry is in Loki, or quarantined, and deleted from the outbox. All are of this tenant.
   * @throws {Busy} at once when there is no room or it is closing; later when they are not settled within `patienceMs`
   */
  accept(tenantId: string, entries: readonly AuditEntry[]): Promise<void>;
  /**
   * Stops accepting, flushes, and waits so long at most.
   * @returns whether everything was settled; what was not rejects, and nothing is pushed any more
   */
  close(deadlineMs: number): Promise<boolean>;
  stats(): ShipStats;
}

const realClock: Clock = {
  now: () => performance.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, milliseconds);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

export function createShipper(ports: Ports): Shipper {
  const { push, encode, sizeOf = approximateBytes, clock = realClock } = ports;
  const limits: ShipLimits = { ...shipLimits, ...ports.limits };
  const buffer = createShipBuffer({ limits, clock, sizeOf, tell });
  const outcome = createOutcome({ stores: ports, limits, clock, buffer, tell });
  /** Tenants with a stream that may push; the next one first. */
  const ready = new Set<Tenant>();
  let inFlight = 0;
  let ailingInFlight = 0;
  let closing: Promise<boolean> | undefined;
  let stopped = false;

  function tell(event: ShipperEvent): void {
    try {
      ports.observe?.(event);
    } catch {
      // Whoever counts must not stop what is counted.
    }
  }

  async function accept(tenantId: string, entries: readonly AuditEntry[]): Promise<void> {
    if (entries.some((entry) => entry.tenant_id !== tenantId))
      throw new RangeError("entries of another tenant");
    if (entries.length === 0) return;
    try {
      if (closing !== undefined) throw new Busy("stopping");
      const { settled, touched, duplicates } = buffer.add(tenantId, entries);
      tell({ type: "received", tenantId, entries: entries.length, duplicates });
      for (const stream of touched) wake(stream);
      pump();
      await settled;
    } catch (error) {
      if (error instanceof Busy)
        tell({ type: "refused", tenantId, entries: entries.length, reason: error.reason });
      throw error;
    }
  }

  const due = (stream: Stream): number => dueAt(stream, limits, closing !== undefined);

  /** A stream whose time has come gets in line; else its one timer is set. To be called whenever something about it changed. */
  function wake(stream: Stream): void {
    if (stopped) return;
    const at = due(stream);
    const now = clock.now();
    if (at <= now) {
      stream.tenant.due.add(stream);
      ready.add(stream.tenant);
    } else if (at !== stream.wakeAt) {
      stream.cancelWake();
      stream.wakeAt = at;
      stream.cancelWake = () => {};
      if (at < Number.POSITIVE_INFINITY)
        stream.cancelWake = clock.after(Math.ceil(at - now), () => onTimer(stream));
    }
  }

  function onTimer(stream: Stream): void {
    stream.wakeAt = Number.POSITIVE_INFINITY;
    wake(stream);
    pump();
  }

  /** Starts what may start. One push of a tenant, then it is the next one's turn. */
  function pump(): void {
    for (let skipped = 0; !stopped && inFlight < limits.pushes && skipped < ready.size; ) {
      const [tenant] = ready as Iterable<Tenant>;
      if (tenant === undefined) return;
      ready.delete(tenant);
      const stream = mayPush(tenant) ? firstDue(tenant) : undefined;
      if (tenant.due.size > 0) ready.add(tenant);
      skipped = stream === undefined ? skipped + 1 : 0;
      if (stream !== undefined) void ship(stream);
    }
  }

  function mayPush({ ailing, held, throttles, inFlight: own }: Tenant): boolean {
    // One push is enough to find out whether the tenant is welcome again.
    if (held !== undefined || throttles > 0) return own < 1 && ailingInFlight < limits.ailingPushes;
    if (ailing) return own < limits.ailingTenantPushes && ailingInFlight < limits.ailingPushes;
    return own < limits.tenantPushes;
  }

  function firstDue(tenant: Tenant): Stream | undefined {
    for (const stream of tenant.due) {
      tenant.due.delete(stream);
      if (due(stream) <= clock.now()) return stream;
      wake(stream);
    }
    return undefined;
  }

  /** One push of a stream and what follows from the answer. Never rejects. */
  async function ship(stream: Stream): Promise<void> {
    const { tenant } = stream;
    const batch = next(stream, clock.now(), limits, closing !== undefined);
    if (batch === undefined) return;
    stream.busy = true;
    const { epoch } = tenant;
    const [piece, body] = encoded(stream, batch);
    const answer = typeof body === "string" ? await send(tenant, body, piece.items.length) : body;
    // What it means for the tenant comes first: its other streams may have to wait.
    const followed = outcome.follow(stream, piece, answer, epoch === tenant.epoch);
    pump();
    await followed;
    stream.busy = false;
    wake(stream);
    pump();
  }

  /** The body of a batch, or of its first half when it has become larger than it was taken for, or why there is none. */
  function encoded(stream: Stream, batch: Piece): [piece: Piece, body: string | PushAnswer] {
    for (let piece = batch; ; piece = halve(stream, piece)) {
      try {
        const body = encode(piece.items.map(({ entry }) => entry));
        if (piece.items.length === 1 || !exceeds(body, limits.batchBytes)) return [piece, body];
      } catch (error) {
        return [piece, { status: UNENCODABLE, text: String(error) }];
      }
    }
  }

  async function send(tenant: Tenant, body: string, entries: number): Promise<PushAnswer> {
    const ailing = Number(tenant.ailing);
    const since = clock.now();
    tenant.inFlight++;
    inFlight++;
    ailingInFlight += ailing;
    const answer = await pushed(tenant.id, body);
    tenant.inFlight--;
    inFlight--;
    ailingInFlight -= ailing;
    const seconds = (clock.now() - since) / 1_000;
    tell({ type: "push", tenantId: tenant.id, status: answer.status, seconds, entries });
    return answer;
  }

  async function pushed(tenantId: string, body: string): Promise<PushAnswer> {
    try {
      return await push(tenantId, body);
    } catch (error) {
      return { status: 0, text: String(error) };
    }
  }

  function close(deadlineMs: number): Promise<boolean> {
    closing ??= buffer.whenEmpty(deadlineMs).then(stop);
    for (const { streams } of buffer.tenants.values()) for (const stream of streams.values()) wake(stream);
    pump();
    return closing;
  }

  function stop(settled: boolean): boolean {
    stopped = true;
    outcome.stop();
    for (const { streams } of buffer.tenants.values())
      for (const stream of streams.values()) stream.cancelWake();
    buffer.stop();
    return settled;
  }

  return { accept, close, stats: buffer.stats };
}
