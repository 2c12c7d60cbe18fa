// Which API keys does my tenant have? Newest first, a page at a time, no secret among it. One Redis round trip.
import { apiKeyView } from "../shared/api-keys.ts";
import { defineFunction } from "../shared/function.ts";
import { nextLink, pageOf, pageQuery } from "../shared/pages.ts";

export const request = { query: pageQuery };

export const reply = pageOf(apiKeyView);

export default defineFunction(
  "api-keys-list",
  { needs: ["apiKeys"], request, reply },
  async ({ query }, call, { apiKeys }) => {
    const { keys, next } = await apiKeys.list(call, query);
    return {
      status: 200,
      headers: nextLink(call.route.path, query, next),
      body: { data: keys, next_cursor: next },
    };
  },
);
