/** The keyed hash under which an API key is stored: HMAC-SHA-256 with a pepper that Redis never sees. */
import { createHmac, createSecretKey } from "node:crypto";
import type { KeyHash } from "../call.ts";

/** @param peppers `[version, key in base64url]`, the current one first */
export function createKeyHasher(peppers: readonly (readonly [version: string, key: string])[]) {
  const keys = peppers.map(([pepper, key]) => ({ pepper, key: createSecretKey(key, "base64url") }));
  return (text: string): KeyHash[] =>
    keys.map(({ pepper, key }) => ({
      pepper,
      hash: createHmac("sha256", key).update(text).digest("base64url"),
    }));
}
