/** Reading a tenant's audit trail back from Loki. */
import { type AuditFilter, matchesFilter } from "./audit.ts";
import type { Part, Position } from "./audit-pages.ts";
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
  /** Only what is older than this. */
  readonly before: Position | undefined;
  /** Milliseconds since 1970: nothing can be older. */
  readonly tenantSince: number;
  readonly limit: number;
}
export type History = (query: HistoryQuery) => Promise<Part>;

/** Entries that match, newest first, `limit` at most. @throws {Problem} store_unavailable */
export const createHistory =
  (loki: RangeReader, now: () => number = Date.now): History =>
  async ({ tenantId, filter, before, tenantSince, limit }) => {
    const query = logQuery(tenantId, filter);
    const entries: Part["entries"][number][] = [];
    let position = before;
    let lowest = before?.seq ?? Number.MAX_SAFE_INTEGER;
    for (let windows = 0; windows < MAX_WINDOWS; windows += 1) {
      const window = queryWindow(filter, {
        now: now(),
        retention: now() - tenantSince,
        before: position?.ns,
      });
      if (window === undefined) return { entries };
      const lines = await loki.queryRange(tenantId, { ...window, query, limit, direction: "backward" });
      const found = lines.flatMap(({ line }) => entryFromLine(line) ?? []);
      entries.push(...found.filter((entry) => matchesFilter(entry, filter)));
      const oldest = found.at(-1);
      if (oldest !== undefined) lowest = oldest.seq;
      if (lines.length === limit && oldest !== undefined) {
        return { entries, floor: { seq: oldest.seq, ns: nsOf(oldest) } };
      }
      position = { seq: lowest, ns: window.start };
    }
    return position === undefined ? { entries } : { entries, floor: position };
  };
