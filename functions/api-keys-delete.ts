// Take an API key away. One Redis round trip.
// Promises: when this answers, the key is refused everywhere; for 30 days a later use is recognised and
// stands in the audit trail as denied.
import * as z from "zod";
import { keyId } from "../shared/formats.ts";
import { defineFunction } from "../shared/function.ts";

export const request = { params: z.strictObject({ key_id: keyId }) };

export default defineFunction(
  "api-keys-delete",
  { needs: ["apiKeys"], request },
  async ({ params }, call, { apiKeys }) => {
    await apiKeys.delete(call, params.key_id);
    return { status: 204 };
  },
);
