/** What audit-ship decides, without doing any of it: bounds, what an answer of Loki means, how long to wait, why one is refused. */
import type { AuditEntry } from "./audit.ts";

/** Time and chance. */
export interface Clock {
  /** Milliseconds, never backwards. */
  now(): number;
  /** Calls once, after so many milliseconds; what it returns calls it off. */
  after(milliseconds: number, run: () => void): () => void;
  /** From 0 to 1. */
  random(): number;
}

/** Every bound of the shipper. Entries held take about twice their bytes of heap. */
export const shipLimits = {
  /** Of one push. Loki answers 500 for ever above 4 MiB, and 100-line pushes cost it twice the CPU of 1,000-line ones. */
  batchEntries: 5_000,
  batchBytes: 1_000_000,
  /** Milliseconds that an entry waits for company. */
  lingerMs: 300,
  /** Of all tenants together: several batches for each push in flight. */
  maxEntries: 100_000,
  maxBytes: 64_000_000,
  /** Of one tenant: a quarter, so that one whose pushes fail leaves room for the others. */
  tenantEntries: 25_000,
  tenantBytes: 16_000_000,
  /** Calls of `accept` that wait. Each is an open request. */
  maxDeliveries: 10_000,
  /** Milliseconds after which such a call is told to come again. Less than the Trigger's delivery timeout. */
  patienceMs: 45_000,
  /** Pushes in flight, in all and of one tenant. */
  pushes: 16,
  tenantPushes: 4,
  /** Of a tenant whose last push was not taken, and of all such tenants together: hanging pushes are never all pushes. */
  ailingTenantPushes: 2,
  ailingPushes: 8,
  /**
   * Milliseconds by which what is pushed may be newer than what of its stream still waits: half of the hour behind the newest
   * entry of a stream, beyond which Loki takes none.
   */
  leadMs: 30 * 60 * 1000,
  /** Milliseconds between two searches for entries that nobody waits for. */
  evictEveryMs: 1_000,
  /** Milliseconds between tries, growing from one to the other. */
  retryMinMs: 200,
  retryMaxMs: 30_000,
  /** Milliseconds between tries of a tenant whose pushes are answered with what no retry cures. */
  holdMs: 30_000,
  /**
   * Failures after which a batch is halved, and an entry that fails alone lets others pass; those that would shut it out, after
   * as many while other streams of its tenant were taken.
   */
  repeats: 3,
  /** A batch that is told 429 is not halved below this: no sensible burst is smaller than one CloudEvent. */
  throttleFloorBytes: 64 * 1024,
  /** 429s after which what cannot be halved lets others pass. */
  throttleRepeats: 10,
  /** Times that an entry fails alone with 5xx although the stream has taken others since, until it is quarantined. */
  strikes: 5,
  /** Tries of one removal or quarantine: about a minute and a half. */
  storeTries: 10,
  /** Characters of Loki's reason that are kept with a quarantined entry. */
  reasonLength: 1_000,
};
export type ShipLimits = typeof shipLimits;

export interface PushAnswer {
  /** 0: no answer came, and whether it is stored is not known. */
  readonly status: number;
  readonly text: string;
  /** Of a Retry-After header. */
  readonly retryAfterMs?: number;
}

/** Stands for the answer to a body that could not even be made. */
export const UNENCODABLE = -1;

/**
 * stored: by Loki, all of it. refused: something in it can never be stored, and the valid rest may be stored already.
 * again: stored or not, nobody knows. throttled: nothing is stored, the tenant sends too much. hold: nothing is stored
 * and somebody has to act; 260 is Loki's "ingestion blocked", and what is not known to mean stored does not mean it.
 */
export type Verdict = "stored" | "refused" | "again" | "throttled" | "hold";

export function verdictOf(status: number): Verdict {
  if (status === 204) return "stored";
  if (status === 400 || status === 413 || status === UNENCODABLE) return "refused";
  if (status === 429) return "throttled";
  if (status === 0 || status === 408 || status >= 500) return "again";
  return "hold";
}

/** Milliseconds to wait after the nth failure: exponential, the upper half of each step at random. */
export function backoff(failures: number, random: number, limits: ShipLimits): number {
  const step = Math.min(limits.retryMaxMs, limits.retryMinMs * 2 ** failures);
  return step / 2 + (random * step) / 2;
}

/** Words of Loki's answers, the first that fits. */
const refusals = [
  ["too_old", /timestamp too old/i],
  ["too_far_behind", /too far behind|out of order/i],
  ["too_new", /timestamp too new/i],
  ["line_too_long", /max entry size|max line size|line too long/i],
  ["metadata", /structured metadata/i],
] as const;
export type RefusalClass =
  | (typeof refusals)[number][0]
  | "too_large"
  | "server_error"
  | "unencodable"
  | "other";

interface Refusal {
  readonly class: RefusalClass;
  /** For whoever looks at the quarantine. */
  readonly reason: string;
  /** Loki refuses an entry for its age also when it has it already. */
  readonly maybeStored: boolean;
}

/** Why one entry cannot be stored. */
export function refusalOf({ status, text }: PushAnswer, limits: ShipLimits): Refusal {
  const reason = `${status} ${text}`.slice(0, limits.reasonLength).toWellFormed();
  const name = status === 400 ? refusals.find(([, words]) => words.test(text))?.[0] : undefined;
  return {
    class: name ?? classOf(status),
    reason,
    maybeStored: name === "too_old" || name === "too_far_behind",
  };
}

function classOf(status: number): RefusalClass {
  if (status === UNENCODABLE) return "unencodable";
  if (status === 413) return "too_large";
  return verdictOf(status) === "again" ? "server_error" : "other";
}

/** Bytes in a push of what every entry has (names of members, twice quoted, times, metadata names), and of one more member. */
const FIXED_BYTES = 520;
const MEMBER_BYTES = 20;

/**
 * Bytes that an entry takes in a push; rather more than less, by a quarter. Cheap, because each body is measured before it is
 * sent. A caller's text counts six per UTF-16 unit: it stands in the line and in metadata, with three bytes each at most.
 */
export function approximateBytes(entry: AuditEntry): number {
  const { reason, name, scopes } = entry.details;
  let bytes = FIXED_BYTES + 2 * (entry.id.length + entry.request_id.length + entry.actor.id.length);
  bytes += 6 * (entry.username.length + (entry.target.id?.length ?? 0)) + entry.tenant_id.length;
  bytes += member(entry.traceparent) + member(entry.source_ip) + 3 * (member(reason) + member(name));
  if (scopes !== undefined) for (const scope of scopes) bytes += member(scope);
  return bytes;
}

const member = (text: string | undefined): number => (text === undefined ? 0 : text.length + MEMBER_BYTES);

const utf8 = new TextEncoder();
let scratch = new Uint8Array();

/** Whether a text has more bytes than that. */
export function exceeds(text: string, bytes: number): boolean {
  if (scratch.length !== bytes) scratch = new Uint8Array(bytes);
  return text.length > bytes || utf8.encodeInto(text, scratch).read < text.length;
}
