// Put a new item under a key that is free. One Redis round trip.
// Promises: of any number of creators of one key exactly one gets 201; the item and its expiry appear together.
import * as z from "zod";
import { etagOf } from "../shared/etag.ts";
import { defineFunction } from "../shared/function.ts";
import { contentOf, item, itemContent, itemKey, itemLocation } from "../shared/items.ts";
import { Problem } from "../shared/problems.ts";

export const request = {
  query: z.strictObject({ key: itemKey.optional() }),
  holdsValue: true,
  body: itemContent.extend({ key: itemKey.optional() }),
} as const;

export const reply = item;

export default defineFunction(
  "data-create",
  { needs: ["items"], request, reply },
  async ({ query, body }, call, { items }, { maxValueBytes }) => {
    const key = body.key ?? query.key;
    if (key === undefined || (query.key ?? key) !== key) {
      const detail = key === undefined ? "Required, here or as ?key=" : "Differs from ?key=";
      throw new Problem("validation_failed", { errors: [{ pointer: "#/key", detail }] });
    }
    const created = await items.create(call, key, contentOf(body, maxValueBytes));
    const headers = { Location: itemLocation(key), ETag: etagOf(created.revision) };
    return { status: 201, headers, body: created.item };
  },
);
