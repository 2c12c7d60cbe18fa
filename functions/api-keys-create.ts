// Make an API key for a program. One Redis round trip.
// Promises: the key's text is in this answer and nowhere else ever; it can never do more than its creator can.
import { apiKeySettings, createdApiKey } from "../shared/api-keys.ts";
import { defineFunction } from "../shared/function.ts";

export const request = { body: apiKeySettings };

export const reply = createdApiKey;

export default defineFunction(
  "api-keys-create",
  { needs: ["apiKeys"], request, reply },
  async ({ body }, call, { apiKeys }) => {
    const { view, key } = await apiKeys.create(call, body);
    return { status: 201, body: { ...view, key_value: key.text } };
  },
);
