/** Signature algorithms of JWTs that are accepted; each key says which one it is for (RFC 8725, 3.1). */
export const TOKEN_ALGORITHMS = ["EdDSA", "ES256"] as const;
