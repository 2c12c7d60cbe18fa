// Remove an item. One Redis round trip.
// Promises: of any number of deleters exactly one gets 204; with If-Match only the revision the caller has seen goes.
import { z } from "zod";
import { entityTags } from "../shared/etag.ts";
import { defineFunction } from "../shared/function.ts";
import { itemKey } from "../shared/items.ts";

export const request = {
  params: z.strictObject({ key: itemKey }),
  headers: z.object({ "if-match": entityTags.optional() }),
};

export default defineFunction(
  "data-delete",
  { needs: ["items"], request },
  async ({ params, headers }, call, { items }) => {
    await items.delete(call, params.key, headers["if-match"]);
    return { status: 204 };
  },
);
