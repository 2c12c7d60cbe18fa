/** What audit-ship holds: tenants, their streams, and pieces of those that are pushed together. Oldest first, at every step. */
import type { AuditEntry } from "./audit.ts";
import type { ShipLimits } from "./ship-batch.ts";

/** One call of `accept`. */
export interface Delivery {
  readonly deadline: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  /** Entries that are not settled. */
  open: number;
  done: boolean;
}

export interface Item {
  readonly entry: AuditEntry;
  readonly bytes: number;
  readonly arrivedAt: number;
  waiters: readonly Delivery[];
  /** Another entry with this number: after a failover that lost writes it can have been given twice. */
  twin: Item | undefined;
  /** How often it failed alone although its stream took others since, and what the stream had taken at the last time. */
  strikes: number;
  successesSeen: number;
}

/** Entries that are pushed together. */
export interface Piece {
  readonly items: readonly Item[];
  /** Failures so far: 5xx or no answer, and 429. */
  attempts: number;
  throttles: number;
  /** It cannot be halved and keeps failing: what comes after it may pass until `notBefore`. */
  aside: boolean;
  notBefore: number;
  /** How often it failed since although the tenant's other streams were taken, which is no outage; and how many had been by then. */
  alone: number;
  storedSeen: number;
}

/** The entries of one tenant and action: one stream of Loki's. */
export interface Stream {
  readonly tenant: Tenant;
  /** Closed batches and what is left of them. The one in flight stays here while `busy`. */
  pieces: Piece[];
  /** What waits for company, and since when. */
  queue: Item[];
  queueBytes: number;
  queuedAt: number;
  /** Whether `queue` is in the order of seq: events of several processes overtake each other. */
  sorted: boolean;
  busy: boolean;
  /** Pushes in a row that failed with 5xx or without an answer, and pushes ever stored. */
  failures: number;
  successes: number;
  notBefore: number;
  /** When its timer fires. */
  wakeAt: number;
  cancelWake: () => void;
}

export interface Tenant {
  readonly id: string;
  /** Everything not settled, by seq, in the order of arrival. */
  readonly items: Map<number, Item>;
  readonly streams: Map<string, Stream>;
  /** Streams that may push now. */
  readonly due: Set<Stream>;
  bytes: number;
  inFlight: number;
  /** Pushes ever stored. */
  stored: number;
  /** The status for which it is held. */
  held: number | undefined;
  /** Its last push was not taken. */
  ailing: boolean;
  /** 429s in a row. Of pushes that were under way together one counts: each is of an epoch, and a setback begins the next. */
  throttles: number;
  epoch: number;
  notBefore: number;
}

export const createTenant = (id: string): Tenant => ({
  id,
  items: new Map(),
  streams: new Map(),
  due: new Set(),
  bytes: 0,
  inFlight: 0,
  stored: 0,
  held: undefined,
  ailing: false,
  throttles: 0,
  epoch: 0,
  notBefore: 0,
});

const createStream = (tenant: Tenant): Stream => ({
  tenant,
  pieces: [],
  queue: [],
  queueBytes: 0,
  queuedAt: 0,
  sorted: true,
  busy: false,
  failures: 0,
  successes: 0,
  notBefore: 0,
  wakeAt: Number.POSITIVE_INFINITY,
  cancelWake: () => {},
});

const createPiece = (items: readonly Item[], attempts = 0): Piece => ({
  items,
  attempts,
  throttles: 0,
  aside: false,
  notBefore: 0,
  alone: 0,
  storedSeen: 0,
});

export const bytesOf = (items: readonly Item[]): number => items.reduce((sum, { bytes }) => sum + bytes, 0);

export function find({ items }: Tenant, { seq, id }: AuditEntry): Item | undefined {
  let item = items.get(seq);
  while (item !== undefined && item.entry.id !== id) item = item.twin;
  return item;
}

export function forget({ items }: Tenant, item: Item): void {
  const { seq } = item.entry;
  const twins: Item[] = [];
  for (let one = items.get(seq); one !== undefined; one = one.twin) if (one !== item) twins.push(one);
  items.delete(seq);
  for (const one of twins) put(items, one);
}

function put(items: Map<number, Item>, item: Item): void {
  item.twin = items.get(item.entry.seq);
  items.set(item.entry.seq, item);
}

/** @returns its stream */
export function enqueue(tenant: Tenant, item: Item): Stream {
  put(tenant.items, item);
  const { action, seq } = item.entry;
  let stream = tenant.streams.get(action);
  if (stream === undefined) {
    stream = createStream(tenant);
    tenant.streams.set(action, stream);
  }
  const last = stream.queue.at(-1);
  if (last === undefined) stream.queuedAt = item.arrivedAt;
  else if (last.entry.seq > seq) stream.sorted = false;
  stream.queue.push(item);
  stream.queueBytes += item.bytes;
  return stream;
}

/** The oldest of the queue become a piece, as many as a batch may hold. */
function cut(stream: Stream, { batchEntries, batchBytes }: ShipLimits): Piece {
  if (!stream.sorted) stream.queue.sort((a, b) => a.entry.seq - b.entry.seq);
  stream.sorted = true;
  let count = 0;
  let bytes = 0;
  for (const item of stream.queue) {
    if (count > 0 && (count === batchEntries || bytes + item.bytes > batchBytes)) break;
    count++;
    bytes += item.bytes;
  }
  const piece = createPiece(stream.queue.splice(0, count));
  stream.pieces.push(piece);
  stream.queueBytes -= bytes;
  stream.queuedAt = stream.queue[0]?.arrivedAt ?? 0;
  return piece;
}

/**
 * Halves take the place of a piece.
 * @param attempts what they begin with: a half need not fail as often as the whole did, but a single entry does
 * @returns the first
 */
export function halve(stream: Stream, piece: Piece, attempts = 0): Piece {
  const middle = Math.ceil(piece.items.length / 2);
  const [first, second] = [piece.items.slice(0, middle), piece.items.slice(middle)].map((items) =>
    createPiece(items, items.length > 1 ? attempts : 0),
  ) as [Piece, Piece];
  replace(stream, piece, first, second);
  return first;
}

export function replace(stream: Stream, piece: Piece, ...by: readonly Piece[]): void {
  stream.pieces.splice(stream.pieces.indexOf(piece), 1, ...by);
}

/** When a stream may push next; Infinity: it has nothing, or a push is under way. */
export function dueAt(stream: Stream, limits: ShipLimits, flush: boolean): number {
  if (stream.busy) return Number.POSITIVE_INFINITY;
  let own = freshDueAt(stream, limits, flush);
  for (const { aside, notBefore } of stream.pieces) if (aside && notBefore < own) own = notBefore;
  return Math.max(own, stream.notBefore, stream.tenant.notBefore);
}

/** What to push now; it stays in `pieces`. undefined: nothing is due. */
export function next(stream: Stream, now: number, limits: ShipLimits, flush: boolean): Piece | undefined {
  if (dueAt(stream, limits, flush) > now) return undefined;
  const aside = stream.pieces.find((piece) => piece.aside && piece.notBefore <= now);
  // While nothing goes through, what was not tried yet says more than another try of what keeps failing.
  const freshFirst = aside === undefined || (stream.failures > 0 && freshDueAt(stream, limits, flush) <= now);
  const chosen = freshFirst ? (stream.pieces.find((piece) => !piece.aside) ?? cut(stream, limits)) : aside;
  return stream.pieces.find((piece) => shutsOut(chosen, piece, limits)) ?? chosen;
}

/** Whether Loki would take the one no longer once it has the other. In an outage an entry is set aside through no fault of its own. */
const shutsOut = (chosen: Piece, { aside, alone, items }: Piece, { leadMs, repeats }: ShipLimits): boolean =>
  aside && alone < repeats && timeOf(chosen.items.at(-1)) - timeOf(items[0]) > leadMs;

const timeOf = (item: Item | undefined): number => Date.parse(item?.entry.timestamp ?? "");

/**
 * When something is due that is not aside. The queue closes when it fills a batch, when its linger is over, and at once
 * when flushing, and then comes after all pieces.
 */
function freshDueAt(
  { pieces, queue, queueBytes, queuedAt }: Stream,
  limits: ShipLimits,
  flush: boolean,
): number {
  if (pieces.some(({ aside }) => !aside)) return 0;
  if (queue.length === 0) return Number.POSITIVE_INFINITY;
  const full = queue.length >= limits.batchEntries || queueBytes >= limits.batchBytes;
  return full || flush ? 0 : queuedAt + limits.lingerMs;
}
