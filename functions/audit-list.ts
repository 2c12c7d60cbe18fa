// What happened in my tenant? The audit trail, newest first, filtered and a page at a time. One Redis round trip.
// Promises: a cursor neither skips nor repeats an entry, because it is a position in the tenant's own numbering.
import { auditEntry, auditFilter } from "../shared/audit.ts";
import { defineFunction } from "../shared/function.ts";
import { nextLink, pageOf, pageQuery } from "../shared/pages.ts";

export const request = { query: auditFilter.extend(pageQuery.shape) };

export const reply = pageOf(auditEntry);

export default defineFunction(
  "audit-list",
  { needs: ["audit"], request, reply },
  async ({ query }, call, { audit }) => {
    const { limit, cursor, ...filter } = query;
    const { entries, next } = await audit.list(call, filter, { limit, cursor });
    return {
      status: 200,
      headers: nextLink(call.route.path, query, next),
      body: { data: entries, next_cursor: next },
    };
  },
);
