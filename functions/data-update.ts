// Replace what is stored under a key: value, metadata and expiry. One Redis round trip.
// Promises: with If-Match nothing that the caller has not seen is overwritten; without a ttl the item never expires.
import * as z from "zod";
import { etagOf } from "../shared/etag.ts";
import { defineFunction } from "../shared/function.ts";
import {
  contentOf,
  item,
  itemContent,
  itemKey,
  preconditionHeaders,
  preconditionsOf,
} from "../shared/items.ts";

export const request = {
  params: z.strictObject({ key: itemKey }),
  headers: preconditionHeaders,
  holdsValue: true,
  body: itemContent,
} as const;

export const reply = item;

export default defineFunction(
  "data-update",
  { needs: ["items"], request, reply },
  async ({ params, headers, body }, call, { items }, { maxValueBytes }) => {
    const content = contentOf(body, maxValueBytes);
    const updated = await items.update(call, params.key, content, preconditionsOf(headers));
    return { status: 200, headers: { ETag: etagOf(updated.revision) }, body: updated.item };
  },
);
