/** JWTs for people: access tokens in the profile of RFC 9068, hardened as RFC 8725 says. */
import { importJWK, type JWK, type JWTPayload, jwtVerify, SignJWT } from "jose";
import * as z from "zod";
import type { Caller } from "./call.ts";
import { tenantId } from "./formats.ts";
import { roles } from "./permissions.ts";
import { TOKEN_ALGORITHMS } from "./token-algorithms.ts";
import type { Principal } from "./users.ts";

const TOKEN_TYPE = "at+jwt";
/** Seconds that the clocks of two pods may differ by. */
const CLOCK_TOLERANCE = 5;
/** A verified token is remembered until it expires: the signature check costs more than the rest of a request. */
const MAX_REMEMBERED = 10_000;

export interface TokenSettings {
  readonly issuer: string;
  readonly audience: string;
}

const claims = z.object({
  sub: z.string().regex(/^usr_[0-9A-Za-z]{16}$/),
  tenant_id: tenantId,
  role: z.enum(roles),
  epoch: z.int().nonnegative(),
  exp: z.int(),
});

export type TokenVerifier = (token: string) => Promise<Caller | undefined>;

/**
 * A check of tokens against the public keys, current and previous ones. It answers the caller a token speaks for, or
 * undefined for anything that is not a valid token: expired, wrong key, issuer, audience, type or shape.
 * Whether the user is still active is the store's decision.
 */
export async function createTokenVerifier(
  keys: readonly JWK[],
  { issuer, audience }: TokenSettings,
  now: () => number = Date.now,
): Promise<TokenVerifier> {
  const byId = new Map(
    await Promise.all(
      keys.map(async (key) => [key.kid, { alg: key.alg, key: await importJWK(key) }] as const),
    ),
  );
  const remembered = new Map<string, { caller: Caller; expires: number }>();

  return async function verify(token) {
    const known = remembered.get(token);
    if (known !== undefined) {
      if (now() < known.expires) return known.caller;
      remembered.delete(token);
      return undefined;
    }
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(
        token,
        ({ kid, alg }) => {
          const entry = byId.get(kid);
          if (entry === undefined || entry.alg !== alg) throw new Error("no such key");
          return entry.key;
        },
        {
          algorithms: [...TOKEN_ALGORITHMS],
          typ: TOKEN_TYPE,
          issuer,
          audience,
          requiredClaims: ["sub", "iat", "exp", "jti"],
          clockTolerance: CLOCK_TOLERANCE,
          currentDate: new Date(now()),
        },
      ));
    } catch {
      return undefined;
    }
    const parsed = claims.safeParse(payload);
    if (!parsed.success) return undefined;
    const { sub: userId, tenant_id, epoch, exp } = parsed.data;
    const caller: Caller = { kind: "user", tenantId: tenant_id, userId, epoch };
    if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value as string);
    remembered.set(token, { caller, expires: (exp + CLOCK_TOLERANCE) * 1000 });
    return caller;
  };
}

/** Seconds, as the answer's `expires_in`. */
interface IssuedToken {
  readonly token: string;
  readonly expiresIn: number;
}
export type TokenIssuer = (principal: Principal) => Promise<IssuedToken>;

/** An issuer that signs with a private JWK carrying `kid` and `alg`; `lifetime` in seconds. */
export async function createTokenIssuer(
  privateKey: JWK,
  { issuer, audience, lifetime }: TokenSettings & { readonly lifetime: number },
  now: () => number = Date.now,
): Promise<TokenIssuer> {
  const key = await importJWK(privateKey);
  return async ({ tenantId: tenant_id, userId, role, epoch }) => {
    const issuedAt = Math.floor(now() / 1000);
    const token = await new SignJWT({ tenant_id, role, epoch })
      .setProtectedHeader({ alg: privateKey.alg as string, kid: privateKey.kid as string, typ: TOKEN_TYPE })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifetime)
      .setJti(crypto.randomUUID())
      .sign(key);
    return { token, expiresIn: lifetime };
  };
}
