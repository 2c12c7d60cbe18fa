/** Reading a tenant's audit trail back from Loki. */
import { type AuditEntry, type AuditFilter, matchesFilter } from "./audit.ts";
import type { Part } from "./audit-pages.ts";
import { entryFromLine, logQuery, nsOf, type QueryWindow, queryWindow } from "./loki.ts";

/** Windows of 30 days that one call looks through; the next page goes on where it stopped. */
const MAX_WINDOWS = 4;

interface RangeReader {
  queryRange(
    tenantId: string,
    query: QueryWindow & { readonly query: string; readonly limit: number; readonly direction: "backward" },
  ): Promise<readonly { readonly ns: string; readonly line: string }[]>;
}

interface HistoryQuery {
  readonly tenantId: string;
  readonly filter: AuditFilter;
  /** Only what is older than this, nanoseconds in decimal. */
  readonly before: string | undefined;
  /** Milliseconds since 1970: nothing can be older. */
  readonly tenantSince: number;
  /** The last number that was given out: what has a higher one is not from us. */
  readonly lastSeq: number;
  readonly limit: number;
}
export type History = (query: HistoryQuery) => Promise<Part>;

/** Entries that match, newest first, `limit` at most. @throws {Problem} store_unavailable */
export const createHistory =
  (loki: RangeReader, now: () => number = Date.now): History =>
  async ({ tenantId, filter, before, tenantSince, lastSeq, limit }) => {
    const query = logQuery(tenantId, filter);
    const entries: AuditEntry[] = [];
    let floor = before;
    for (let windows = 0; windows < MAX_WINDOWS; windows += 1) {
      const window = queryWindow(filter, { now: now(), retention: now() - tenantSince, before: floor });
      if (window === undefined) return { entries };
      const lines = await loki.queryRange(tenantId, { ...window, query, limit, direction: "backward" });
      for (const { ns, line } of lines) {
        const entry = entryFromLine(line);
        // Whoever reaches Loki can write there. What cannot be ours is passed over, and paging goes by Loki's own times.
        const isOurs = entry !== undefined && entry.seq <= lastSeq && nsOf(entry) === ns;
        if (isOurs && matchesFilter(entry, filter)) entries.push(entry);
      }
      const oldest = lines.at(-1);
      if (lines.length === limit && oldest !== undefined) return { entries, floor: oldest.ns };
      floor = window.start;
    }
    return floor === undefined ? { entries } : { entries, floor };
  };
