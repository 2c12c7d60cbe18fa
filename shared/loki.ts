/**
 * What an audit entry is in Loki, and how it is asked for. Pure: labels, nanosecond, line and metadata are functions of
 * the entry alone, so an entry that is sent twice is stored as exact duplicates, of which log queries show one.
 *
 * Sources: Loki's HTTP API (push, query_range) and LogQL; what is said of its behaviour was measured on Loki 3.x with
 * k8s/loki/loki.yaml, and test/loki.test.ts measures it again.
 */
import * as z from "zod";
import { type AuditEntry, type AuditFilter, auditEntry } from "./audit.ts";

/** Entries in one answer; `max_entries_limit_per_query`. */
export const MAX_QUERY_ENTRIES = 5_000;
/** Milliseconds of one query: 30 days, below `max_query_length` (30 days and an hour). */
const MAX_QUERY_RANGE = 30 * 24 * 3600 * 1000;
/** Milliseconds that an entry may be ahead of Loki's clock; `creation_grace_period`. */
const MAX_CLOCK_SKEW = 10 * 60 * 1000;
/** Nanoseconds in a millisecond, and with that the number of entries that one millisecond of a tenant can hold. */
const NS_PER_MS = 1_000_000;

/** The only labels. Few values each: every combination is a stream with chunks of its own. */
interface LokiLabels {
  readonly job: "audit_logs";
  readonly tenant_id: string;
  readonly action: string;
}

/** Nanoseconds since 1970 in decimal, the line, structured metadata: an element of `values` in a push. */
export type LokiEntry = readonly [ns: string, line: string, metadata: Readonly<Record<string, string>>];

export const labelsOf = (entry: AuditEntry): LokiLabels => ({
  job: "audit_logs",
  tenant_id: entry.tenant_id,
  action: entry.action,
});

/** Equal for entries of one stream. Neither part can hold a slash. */
export const streamKey = (entry: AuditEntry): string => `${entry.tenant_id}/${entry.action}`;

/**
 * When it happened, in nanoseconds: unlike those of any other entry of the tenant, so that pages can advance, and in the
 * order of `seq` (but for entries of one millisecond on both sides of a multiple of a million).
 */
export const nsOf = (entry: AuditEntry): string =>
  String(toNs(Date.parse(entry.timestamp)) + BigInt(entry.seq % NS_PER_MS));

const toNs = (milliseconds: number): bigint => BigInt(milliseconds) * BigInt(NS_PER_MS);

export function toLokiEntry(entry: AuditEntry): LokiEntry {
  const line = JSON.stringify(canonical(entry, auditEntry));
  return [nsOf(entry), line, metadataOf(entry)];
}

/** Members in the order of the schema and no others; strings without lone surrogates, of which one fails a whole push. */
function canonical(value: unknown, schema: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed();
  if (Array.isArray(value)) return value.map((one) => canonical(one, undefined));
  if (typeof value !== "object" || value === null || !(schema instanceof z.ZodObject)) return value;
  const members = value as Record<string, unknown>;
  const shape = schema.shape as Record<string, unknown>;
  return Object.fromEntries(Object.keys(shape).map((name) => [name, canonical(members[name], shape[name])]));
}

/** What Grafana filters and groups by without parsing lines. Loki keeps U+FFFD here as a space. */
function metadataOf(entry: AuditEntry): Record<string, string> {
  const all = {
    event_id: entry.id,
    username: entry.username,
    key_id: keyIdOf(entry),
    request_id: entry.request_id,
    outcome: entry.outcome,
    seq: String(entry.seq),
  };
  const present = Object.entries(all).filter(([, value]) => value !== "");
  return Object.fromEntries(present.map(([name, value]) => [name, value.toWellFormed()]));
}

/** The API key that acted; when a person did, the API key that was acted upon. An entry about no API key has none. */
function keyIdOf({ actor, target }: AuditEntry): string {
  if (actor.type === "api_key") return actor.id;
  return target.type === "api_key" ? (target.id ?? "") : "";
}

/**
 * Body of a push, JSON: `{"streams": [{"stream": <labels>, "values": [<entry>, ...]}]}`. One stream only, because a push
 * of several can be answered 204 although entries of all but the last were refused.
 */
export function pushBody(entries: readonly AuditEntry[]): string {
  const [first] = entries;
  if (first === undefined) throw new RangeError("a push has at least one entry");
  if (entries.some((entry) => streamKey(entry) !== streamKey(first))) {
    throw new RangeError("a push holds the entries of one stream");
  }
  return JSON.stringify({ streams: [{ stream: labelsOf(first), values: entries.map(toLokiEntry) }] });
}

/** The entry that a line stands for; undefined when it is not one. */
export function entryFromLine(line: string): AuditEntry | undefined {
  try {
    return auditEntry.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/**
 * LogQL for a tenant's entries. `from` and `to` are not in it: they are the time range, see `queryWindow`.
 * Every entry that matches the filter is found, and possibly some that do not (Loki compares U+FFFD as a space):
 * `matchesFilter` has the last word.
 */
export function logQuery(tenantId: string, { action, actor, key, outcome }: AuditFilter): string {
  const labels = [`job="audit_logs"`, `tenant_id=${literal(tenantId)}`];
  if (action !== undefined) labels.push(`action=${literal(action)}`);
  const stages = [`{${labels.join(", ")}}`];
  if (outcome !== undefined) stages.push(`outcome=${literal(outcome)}`);
  if (actor !== undefined) stages.push(`json actor_id="actor.id"`, `actor_id=${literal(actor)}`);
  if (key !== undefined) stages.push(`json target_id="target.id"`, `target_id=${literal(key)}`);
  return stages.join(" | ");
}

/** A query that finds one entry and nothing else, whether it is there. */
export const entryQuery = (entry: AuditEntry): QueryWindow & { readonly query: string } => ({
  query: `${logQuery(entry.tenant_id, { action: entry.action })} | event_id=${literal(entry.id)}`,
  start: nsOf(entry),
  end: String(BigInt(nsOf(entry)) + 1n),
});

/**
 * A LogQL string literal that means this text. LogQL reads double-quoted strings as Go does, which understands all that
 * JSON writes, but for lone surrogates. U+FFFD would match nothing: Loki puts a space in its place in what it parses.
 */
const literal = (text: string): string => JSON.stringify(text.toWellFormed().replaceAll("\ufffd", " "));

/** A time range of a query, nanoseconds since 1970 in decimal: `start` is in it, `end` is not. */
export interface QueryWindow {
  readonly start: string;
  readonly end: string;
}

interface WindowOptions {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Milliseconds for which Loki keeps entries: nothing older is asked for. */
  readonly retention: number;
  /** Only what is older than this, nanoseconds: of the last entry that was read, or the start of the last window. */
  readonly before?: string | undefined;
}

/**
 * The newest range that one query may cover. To read backwards, query it with a limit; when the answer is full, go on
 * `before` its oldest entry, else `before` the window's start. @returns undefined when nothing is left
 */
export function queryWindow(
  { from, to }: Pick<AuditFilter, "from" | "to">,
  { now, retention, before }: WindowOptions,
): QueryWindow | undefined {
  const newest = toNs(Math.min(now + MAX_CLOCK_SKEW, to === undefined ? Infinity : Date.parse(to)));
  const end = before !== undefined && BigInt(before) < newest ? BigInt(before) : newest;
  const oldest = toNs(Math.max(now - retention, from === undefined ? -Infinity : Date.parse(from)));
  const reach = end - toNs(MAX_QUERY_RANGE);
  const start = reach > oldest ? reach : oldest;
  return start < end ? { start: String(start), end: String(end) } : undefined;
}
