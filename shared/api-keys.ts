/** API keys as records: their schemas, and what a store of them can do. Their text is in api-key.ts. */
import * as z from "zod";
import type { ApiKey } from "./api-key.ts";
import type { Call } from "./call.ts";
import { anyTimestamp, keyId, timestamp, toTimestamp } from "./formats.ts";
import type { PageRequest } from "./pages.ts";
import { defaultKeyScopes, keyScopes } from "./permissions.ts";
import { secret } from "./secrets.ts";

export const apiKeySettings = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(128)
    .refine(
      (name) => !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(name),
      "Contains a character that cannot be printed",
    ),
  scopes: z
    .array(z.enum(keyScopes))
    .min(1)
    .max(keyScopes.length)
    .refine((scopes) => new Set(scopes).size === scopes.length, "Names a scope twice")
    .default([...defaultKeyScopes]),
  expires_at: anyTimestamp
    .refine((text) => Date.parse(text) > Date.now(), "Is in the past")
    // RFC 3339 years have four digits, in UTC too: 9999-12-31T23:00:00-02:00 is in the year 10000.
    .refine((text) => Date.parse(text) < Date.UTC(10_000, 0), "Is beyond the year 9999")
    .transform((text) => toTimestamp(Date.parse(text)))
    .nullable()
    .default(null),
  enabled: z.boolean().default(true),
});
export type ApiKeySettings = z.infer<typeof apiKeySettings>;

export const apiKeyView = z.object({
  key_id: keyId,
  name: z.string(),
  /** What the key's text begins with. */
  prefix: z.string(),
  /** The prefix and the last four characters of the secret, for its owner to recognise. */
  hint: z.string(),
  scopes: z.array(z.enum(keyScopes)),
  enabled: z.boolean(),
  created_at: timestamp,
  /** Username of the creator. */
  created_by: z.string(),
  last_used: timestamp.nullable(),
  expires_at: timestamp.nullable(),
});
export type ApiKeyView = z.infer<typeof apiKeyView>;

/** The answer to a creation: the only place where the key's text is ever shown. */
export const createdApiKey = apiKeyView.extend({ key_value: secret(z.string()) });

/** Every method is one atomic step that authenticates, authorizes, acts and writes the audit entry. */
export interface ApiKeyStore {
  /** A new key of the caller's tenant; `key` holds its text, of which only a keyed hash is stored. */
  create(call: Call, settings: ApiKeySettings): Promise<{ view: ApiKeyView; key: ApiKey }>;
  /** Newest first. `next` is the cursor of the following page. */
  list(call: Call, page: PageRequest): Promise<{ keys: ApiKeyView[]; next: string | null }>;
  /** @throws {Problem} not_found */
  delete(call: Call, keyId: string): Promise<void>;
}
