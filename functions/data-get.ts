// What is stored under a key? One Redis round trip; writes nothing but the audit entry and when an
// API key was last used.
// Promises: the item as it was written last, or 304 when the caller has that revision already.
import * as z from "zod";
import { entityTags, etagOf, namesRevision } from "../shared/etag.ts";
import { defineFunction } from "../shared/function.ts";
import { item, itemKey } from "../shared/items.ts";

export const request = {
  params: z.strictObject({ key: itemKey }),
  headers: z.object({ "if-none-match": entityTags.optional() }),
};

export const reply = item;

export default defineFunction(
  "data-get",
  { needs: ["items"], request, reply },
  async ({ params, headers }, call, { items }) => {
    const { item, revision } = await items.get(call, params.key);
    const cache = {
      ETag: etagOf(revision),
      "Cache-Control": "private, no-cache",
      Vary: "Authorization, X-API-Key",
    };
    if (namesRevision(headers["if-none-match"], revision)) return { status: 304, headers: cache };
    return { status: 200, headers: cache, body: item };
  },
);
