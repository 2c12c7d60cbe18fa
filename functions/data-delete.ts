// Remove an item. One Redis round trip.
// Promises: of any number of deleters exactly one gets 204; with If-Match only the revision the caller has seen goes.
import * as z from "zod";
import { defineFunction } from "../shared/function.ts";
import { itemKey, preconditionHeaders, preconditionsOf } from "../shared/items.ts";

export const request = {
  params: z.strictObject({ key: itemKey }),
  headers: preconditionHeaders,
};

export default defineFunction(
  "data-delete",
  { needs: ["items"], request },
  async ({ params, headers }, call, { items }) => {
    await items.delete(call, params.key, preconditionsOf(headers));
    return { status: 204 };
  },
);
