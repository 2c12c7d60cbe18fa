/** From request headers to a caller: which credential was sent, and whether it is one of ours. */
import { looksLikeApiKey, parseApiKey } from "./api-key.ts";
import type { Caller, KeyHash } from "./call.ts";
import { Problem } from "./problems.ts";
import type { TokenVerifier } from "./tokens.ts";

/** The longest credential that is looked at: JWTs of ours have about 500 characters. */
const MAX_CREDENTIAL = 4096;

export interface Authenticator {
  readonly verifyToken: TokenVerifier;
  /** Keyed hashes of a key's text under every pepper, the current one first. */
  readonly hashKey: (text: string) => KeyHash[];
  /** `<env>` of the keys that this installation accepts. */
  readonly keyEnv: string;
}

/**
 * The caller whom the credential speaks for, without asking the store.
 * @throws {Problem} unauthenticated, invalid_token, conflicting_credentials
 */
export async function authenticate(
  authorization: string | undefined,
  xApiKey: string | undefined,
  { verifyToken, hashKey, keyEnv }: Authenticator,
): Promise<Caller> {
  const credential = readCredential(authorization, xApiKey);
  if (!looksLikeApiKey(credential)) {
    const caller = await verifyToken(credential);
    if (caller === undefined) throw new Problem("invalid_token", { cause: "token_invalid" });
    return caller;
  }
  const key = parseApiKey(credential);
  if (key?.env !== keyEnv) throw new Problem("invalid_token", { cause: "key_malformed" });
  return { kind: "api_key", tenantTag: key.tenantTag, keyId: key.keyId, hashes: hashKey(key.text) };
}

/** `Authorization: Bearer` (RFC 6750, 2.1) or its alias `X-API-Key`, which takes API keys only. */
function readCredential(authorization: string | undefined, xApiKey: string | undefined): string {
  const bearer = authorization === undefined ? undefined : /^bearer +(\S+) *$/i.exec(authorization)?.[1];
  if (authorization !== undefined && bearer === undefined) {
    throw new Problem("invalid_token", { detail: "Expected Authorization: Bearer <credential>." });
  }
  if (bearer !== undefined && xApiKey !== undefined && bearer !== xApiKey) {
    throw new Problem("conflicting_credentials", {
      detail: "Authorization and X-API-Key differ; send one of them.",
    });
  }
  const credential = bearer ?? xApiKey;
  if (credential === undefined) throw new Problem("unauthenticated");
  if (credential.length > MAX_CREDENTIAL || (bearer === undefined && !looksLikeApiKey(credential))) {
    throw new Problem("invalid_token", { cause: "credential_malformed" });
  }
  return credential;
}
