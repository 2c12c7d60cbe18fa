/** Construction: from configuration and a Redis connection to the services that the functions of a process ask for. */
import type { Redis } from "ioredis";
import { type Config, parseConfig } from "../config.ts";
import type { Gate, LatchkeyFunction, Services } from "../function.ts";
import { createApiKeyStore } from "../redis/api-keys.ts";
import { createAuditStore } from "../redis/audit.ts";
import type { RunScript } from "../redis/client.ts";
import { createExecute, createRefuse } from "../redis/execute.ts";
import { createItemStore } from "../redis/items.ts";
import { createLoginStore } from "../redis/logins.ts";
import { createUserStore } from "../redis/users.ts";
import { createTokenIssuer, createTokenVerifier } from "../tokens.ts";
import { createKeyHasher } from "./key-hash.ts";

interface Parts {
  readonly redis: Redis;
  readonly run: RunScript;
  readonly onLoginFailure: (reason: string) => void;
}

/** The configuration of a process that serves these functions. @throws {ConfigError} */
export function configFor(
  functions: readonly LatchkeyFunction[],
  env: Parameters<typeof parseConfig>[0],
): Config {
  const signs = functions.some(({ needs }) => needs.includes("issueToken"));
  return parseConfig(env, signs ? ["LATCHKEY_JWT_PRIVATE_KEY"] : []);
}

/** What these functions need and nothing else: a process that signs no tokens holds no private key. */
export async function createServices(
  functions: readonly LatchkeyFunction[],
  config: Config,
  { redis, run, onLoginFailure }: Parts,
): Promise<{ services: Services; gate: Gate }> {
  const tokens = { issuer: config.LATCHKEY_JWT_ISSUER, audience: config.LATCHKEY_JWT_AUDIENCE };
  const authenticator = {
    verifyToken: await createTokenVerifier(config.LATCHKEY_JWT_PUBLIC_KEYS.keys, tokens),
    hashKey: createKeyHasher(config.LATCHKEY_API_KEY_PEPPERS),
    keyEnv: config.LATCHKEY_MODE === "production" ? "live" : "test",
  };
  const outboxLimit = config.AUDIT_OUTBOX_MAX_ENTRIES;
  const execute = createExecute(run, outboxLimit);

  const factories: { [Name in keyof Services]: () => Services[Name] | Promise<Services[Name]> } = {
    items: () => createItemStore(execute),
    apiKeys: () => createApiKeyStore(execute, authenticator),
    users: () => createUserStore(execute),
    audit: () => createAuditStore(execute),
    logins: () =>
      createLoginStore({
        run,
        redis,
        outboxLimit,
        onFailure: onLoginFailure,
        limits: {
          perUser: config.LATCHKEY_LOGIN_MAX_FAILURES,
          perAddress: config.LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS,
          window: config.LATCHKEY_LOGIN_WINDOW_SECONDS,
        },
      }),
    passwords: async () => {
      const { createPasswordHasher } = await import("./passwords.ts");
      return createPasswordHasher(config.LATCHKEY_ARGON2_CONCURRENCY);
    },
    issueToken: () => {
      const key = config.LATCHKEY_JWT_PRIVATE_KEY;
      if (key === undefined) throw new Error("configFor() requires the private key of whoever issues tokens");
      return createTokenIssuer(key, { ...tokens, lifetime: config.LATCHKEY_JWT_LIFETIME_SECONDS });
    },
  };

  const needed = [...new Set(functions.flatMap((one) => one.needs))];
  const built = await Promise.all(needed.map(async (name) => [name, await factories[name]()] as const));
  return {
    services: Object.fromEntries(built) as unknown as Services,
    gate: {
      authenticator,
      refuse: createRefuse(execute),
      maxValueBytes: config.LATCHKEY_VALUE_MAX_BYTES,
      trustedProxies: config.LATCHKEY_TRUSTED_PROXIES,
    },
  };
}
