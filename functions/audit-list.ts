// What happened in my tenant? The audit trail, newest first, filtered and a page at a time, from the outbox and from Loki.
// Costs one Redis round trip, and where there is a Loki a query of it.
// Promises: a cursor neither skips nor repeats an entry, because it is a position in the tenant's own numbering.
import * as z from "zod";
import { auditEntry, auditFilter } from "../shared/audit.ts";
import { cursorOf, positionOf } from "../shared/audit-pages.ts";
import { defineFunction } from "../shared/function.ts";
import { nextLink, pageOf, pageQuery } from "../shared/pages.ts";

const cursor = z
  .string()
  .refine((text) => positionOf(text) !== undefined, "Not a cursor of this list")
  .optional();

export const request = { query: auditFilter.extend({ limit: pageQuery.shape.limit, cursor }) };

export const reply = pageOf(auditEntry);

export default defineFunction(
  "audit-list",
  { needs: ["audit"], request, reply },
  async ({ query }, call, { audit }) => {
    const { limit, cursor, ...filter } = query;
    const before = cursor === undefined ? undefined : positionOf(cursor);
    const { entries, next } = await audit.list(call, filter, { limit, before });
    const nextCursor = next === null ? null : cursorOf(next);
    const headers = nextLink(call.route.path, query, nextCursor);
    return { status: 200, headers, body: { data: entries, next_cursor: nextCursor } };
  },
);
