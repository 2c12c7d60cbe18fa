/** The audit trail in Redis: one outbox stream per tenant, whose stream ids are the sequence numbers. */
import { type AuditEntry, type AuditStore, auditEntry, matchesFilter } from "../audit.ts";
import { checkIntegrity } from "../audit-integrity.ts";
import { mergePage } from "../audit-pages.ts";
import { MAX_QUERY_ENTRIES, nsOf } from "../loki.ts";
import type { History } from "../loki-history.ts";
import type { Execute } from "./execute.ts";
import { seqOf } from "./keys.ts";
import { toRecord, toTime } from "./replies.ts";

/** Entries that one call looks at when it filters. */
const MAX_EXAMINED = 1_000;
/** Queries of Loki for one proof: 50,000 entries. */
const MAX_VERIFY_QUERIES = 10;

/** @param history what has left the outbox; absent without a Loki, where everything stays in it */
export function createAuditStore(execute: Execute, history?: History): AuditStore {
  return {
    async recordRelay(call) {
      await execute(call, { script: "accept-request" });
      return call.tenantId ?? "";
    },

    async verify(call, range) {
      const from = range.from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(range.from);
      const until = range.to === undefined ? Number.POSITIVE_INFINITY : Date.parse(range.to);
      const reply = await execute(call, {
        script: "verify-audit",
        keys: ({ quarantine }) => [quarantine],
        args: [String(MAX_EXAMINED), range.to === undefined ? "" : String(until)],
      });
      const [times, last, quarantined, rows] = reply as [string[], string, string[], [string, string[]][]];
      const [created, ended] = times.map(Number) as [number, number];
      const tenantId = call.tenantId ?? "";
      const lastSeq = Number(last);
      const waiting = rows.map(([id, fields]) => decodeEntry(tenantId, id, fields));
      const shipped = await readBack(history, {
        ...{ tenantId, filter: range, before: undefined },
        ...{ tenantSince: created, lastSeq, limit: MAX_QUERY_ENTRIES },
      });
      // Each home was looked through from its newest entry down to its last one here.
      const ends = [
        ...(waiting.length < MAX_EXAMINED ? [] : [waiting.at(-1)?.seq ?? 0]),
        ...(shipped.complete ? [] : [shipped.entries.at(-1)?.seq ?? lastSeq + 1]),
      ];
      return checkIntegrity({
        entries: [...waiting.filter((entry) => matchesFilter(entry, range)), ...shipped.entries],
        quarantined: quarantined.map(seqOf),
        ...(ends.length === 0 ? {} : { wholeFrom: Math.max(...ends) }),
        ...(from <= created ? { expectedFirst: 1 } : {}),
        ...(from <= ended && ended < until ? { expectedLast: lastSeq } : {}),
      });
    },

    async list(call, filter, { limit, before }) {
      const filtered = Object.values(filter).some((wanted) => wanted !== undefined);
      const examined = filtered ? MAX_EXAMINED : limit + 1;
      const args = [before === undefined ? "" : String(before.seq), String(examined)];
      // The outbox comes first: an entry that is shipped between the two looks is seen twice, and not missed.
      const reply = await execute(call, { script: "list-audit", args });
      const [created, last, rows] = reply as [string, string, [id: string, fields: string[]][]];
      const tenantId = call.tenantId ?? "";
      const waiting = rows.map(([id, fields]) => decodeEntry(tenantId, id, fields));
      const oldest = waiting.at(-1);
      const mayMatchOlder =
        filter.from === undefined || Date.parse(oldest?.timestamp ?? "") >= Date.parse(filter.from);
      const isCut = waiting.length === examined && oldest !== undefined && mayMatchOlder;
      const lastSeq = Number(last);
      const shipped = await history?.({
        tenantId,
        filter,
        before: before?.ns,
        tenantSince: Number(created),
        lastSeq,
        limit: limit + 1,
      });
      return mergePage({
        outbox: { entries: waiting, ...(isCut ? { floor: nsOf(oldest) } : {}) },
        loki: shipped ?? { entries: [] },
        below: before?.seq ?? lastSeq + 1,
        limit,
        matches: (entry) => matchesFilter(entry, filter),
        nsOf,
      });
    },
  };
}

/** As much of what has left the outbox as one proof may ask for, newest first. */
async function readBack(history: History | undefined, query: Parameters<History>[0]) {
  const entries: Pick<AuditEntry, "seq" | "id">[] = [];
  let { before } = query;
  for (let queries = 0; history !== undefined && queries < MAX_VERIFY_QUERIES; queries += 1) {
    const part = await history({ ...query, before });
    // Only what the proof needs: several at once of 50,000 whole entries each would not fit into a pod.
    for (const { seq, id } of part.entries) entries.push({ seq, id });
    before = part.floor;
    if (before === undefined) break;
  }
  return { entries, complete: before === undefined };
}

/** Is told of every entry as soon as it stands in the outbox. */
export type OnEntry = (entry: AuditEntry) => void;

/** What a script answers about the entry that it appended: its number, and its fields without the context. */
export type Appended = readonly [seq: string, fields: readonly string[]];

/** The same entry as `decodeEntry` reads from the outbox, put together without asking for it. */
export const appendedEntry = (tenantId: string, [seq, fields]: Appended, context: string): AuditEntry =>
  entryOf(tenantId, seq, ["context", context, ...fields]);

/** The entry that an outbox record stands for. Pure: the same record is the same entry for ever. @throws when it is none */
export const decodeEntry = (tenantId: string, streamId: string, fields: readonly string[]): AuditEntry =>
  auditEntry.parse(entryOf(tenantId, streamId, fields));

/** What has just been written needs no proof that it is an entry: a fifth of the time that this takes. */
function entryOf(tenantId: string, streamId: string, fields: readonly string[]): AuditEntry {
  const record = toRecord(fields);
  const { details, ...context } = JSON.parse(record["context"] ?? "{}") as { details?: object };
  const actor = record["actor"] ?? "";
  const separator = actor.indexOf(":");
  return {
    ...context,
    seq: seqOf(streamId),
    timestamp: toTime(record["at"]),
    tenant_id: tenantId,
    username: record["username"],
    actor: { type: actor.slice(0, separator), id: actor.slice(separator + 1) },
    outcome: record["outcome"],
    details: {
      ...details,
      ...(record["reason"] === "" ? {} : { reason: record["reason"] }),
      ...(record["version"] === undefined ? {} : { version: Number(record["version"]) }),
      ...(record["expires_at"] === undefined ? {} : { expires_at: toTime(record["expires_at"]) }),
    },
  } as AuditEntry;
}
