/** Configuration: one schema of environment variables. Modules with logic get values, never the environment. */
import * as z from "zod";
import { parseNetwork } from "./address.ts";
import { eventOverrides } from "./events.ts";
import { listOf } from "./formats.ts";
import { type RedisConfig, redisEnvironment, redisProblems } from "./redis-config.ts";
import { secret } from "./secrets.ts";
import { TOKEN_ALGORITHMS } from "./token-algorithms.ts";

/** What `npm start` names its own keys, so that production can tell them. */
export const DEMO_MARK = "demo";

const wholeNumber = (min: number, max: number, byDefault: number) =>
  z
    .string()
    .regex(/^\d{1,12}$/, `Expected a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((value) => value >= min && value <= max, `Expected a whole number from ${min} to ${max}`)
    .default(byDefault);

const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: "custom", message: "Expected JSON" });
    return z.NEVER;
  }
});

const httpUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^/?#@]+(\/[^?#]*)?$/, "Expected http:// or https://");

/** As browsers send them, so that comparing is enough. */
const origins = z
  .string()
  .transform((text) => text.split(","))
  .refine(
    (all) =>
      all.join() === "*" || all.every((one) => /^https?:[^*]+$/.test(one) && URL.parse(one)?.origin === one),
    "Expected https://host[:port],… or *",
  );

const keyHeader = { kid: z.string().min(1).max(64), alg: z.enum(TOKEN_ALGORITHMS) };
/** 32 bytes in base64url: a coordinate or the private part of either kind of key (RFC 7518, 6.2; RFC 8037, 2). */
const keyBytes = z.string().regex(/^[\w-]{43}$/, "is not 32 bytes in base64url");
const ed25519 = z.object({ ...keyHeader, kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: keyBytes });
const p256 = z.object({
  ...keyHeader,
  kty: z.literal("EC"),
  crv: z.literal("P-256"),
  x: keyBytes,
  y: keyBytes,
});
const hasOwnAlgorithm = ({ kty, alg }: { kty: string; alg: string }) => (kty === "OKP") === (alg === "EdDSA");

const publicKey = z
  .union([ed25519, p256], "Expected Ed25519 or P-256 keys with kid and alg")
  .refine(hasOwnAlgorithm, "alg does not fit the key");
const privateKey = z
  .union(
    [ed25519.extend({ d: keyBytes }), p256.extend({ d: keyBytes })],
    "Expected an Ed25519 or P-256 private key with kid and alg",
  )
  .refine(hasOwnAlgorithm, "alg does not fit the key");

/** Secrets for keyed hashes, `<version>:<32 bytes or more in base64url>`, separated by commas, the current one first. */
const peppers = z
  .string()
  .regex(
    /^[a-z0-9]{1,16}:[\w-]{43,}(,[a-z0-9]{1,16}:[\w-]{43,}){0,7}$/,
    "Expected <version>:<at least 32 bytes in base64url>,…",
  )
  .transform((text) => text.split(",").map((one) => one.split(":") as [version: string, key: string]))
  .refine((all) => new Set(all.map(([version]) => version)).size === all.length, "Names a version twice");

/** Networks that one variable names at most. */
const MAX_NETWORKS = 16;
const MAX_PROXIES = 10;
const noProxies = `Expected a whole number from 0 to ${MAX_PROXIES}, or up to ${MAX_NETWORKS} networks as 10.0.0.0/8, separated by commas`;
const trustedProxies = z.union(
  [wholeNumber(0, MAX_PROXIES, 0), listOf(MAX_NETWORKS, parseNetwork, noProxies)],
  noProxies,
);

/** Every variable with its check, default and description. The README's table is made from it. */
export const environment = z.object({
  PORT: wholeNumber(0, 65_535, 8080).describe("Port to listen on; 0 takes any free one"),
  ...redisEnvironment.shape,
  K_SINK: httpUrl
    .optional()
    .describe(
      "Where audit entries are published as CloudEvents; SinkBinding sets it. Without it they stay in the outbox",
    ),
  K_CE_OVERRIDES: eventOverrides
    .optional()
    .describe('Extensions for those events, `{"extensions": {…}}`; set by SinkBinding'),
  LOKI_URL: httpUrl
    .optional()
    .describe("The Loki that audit-ship writes to and `GET /audit` reads from as well"),
  AUDIT_OUTBOX_MAX_ENTRIES: wholeNumber(1, 100_000_000, 1_000_000).describe(
    "Audit entries that wait for Loki per tenant, at most; beyond that AUDIT_OVERFLOW says what happens",
  ),
  AUDIT_OVERFLOW: z
    .enum(["refuse", "continue"])
    .default("refuse")
    .describe(
      "When a tenant's outbox is full: `refuse` its operations with 503, or `continue` without audit entries, which leaves gaps in the trail's numbers",
    ),
  LATCHKEY_MODE: z
    .enum(["production", "local"])
    .default("production")
    .describe("`local` is for one's own machine: demo secrets are allowed and keys begin with `lk_test_`"),
  LATCHKEY_JWT_PUBLIC_KEYS: json
    .pipe(z.object({ keys: z.array(publicKey).min(1).max(8) }))
    .refine(({ keys }) => new Set(keys.map(({ kid }) => kid)).size === keys.length, "Names a kid twice")
    .describe("JWK Set of the current and previous public keys that JWTs are checked against"),
  LATCHKEY_JWT_PRIVATE_KEY: secret(json.pipe(privateKey))
    .optional()
    .describe("JWK that JWTs are signed with. Only `token-issue` needs it"),
  LATCHKEY_JWT_ISSUER: z.string().min(1).max(256).default("latchkey").describe("`iss` of JWTs"),
  LATCHKEY_JWT_AUDIENCE: z.string().min(1).max(256).default("latchkey").describe("`aud` of JWTs"),
  LATCHKEY_JWT_LIFETIME_SECONDS: wholeNumber(60, 86_400, 1_800).describe("How long a JWT is valid"),
  LATCHKEY_API_KEY_PEPPERS: secret(peppers).describe(
    "Keys of the keyed hashes of API keys, `<version>:<32 bytes in base64url>`, the current one first, then previous ones",
  ),
  LATCHKEY_VALUE_MAX_BYTES: wholeNumber(1, 16_777_216, 262_144).describe("Largest value of an item, as JSON"),
  LATCHKEY_LOGIN_MAX_FAILURES: wholeNumber(1, 10_000, 10).describe(
    "Failed logins allowed per username and window",
  ),
  LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS: wholeNumber(1, 100_000, 100).describe(
    "Failed logins allowed per source address and window",
  ),
  LATCHKEY_LOGIN_WINDOW_SECONDS: wholeNumber(1, 86_400, 900).describe(
    "The window, from the first failure on",
  ),
  LATCHKEY_ARGON2_CONCURRENCY: wholeNumber(1, 64, 2).describe(
    "Password hashes computed at once (19 MiB each)",
  ),
  LATCHKEY_TRUSTED_PROXIES: trustedProxies.describe(
    "Proxies in front that append to X-Forwarded-For: how many, or their networks (`127.0.0.0/8,10.0.0.0/8`) where that differs; 0 believes the socket's address alone",
  ),
  LATCHKEY_CORS_ORIGINS: origins
    .optional()
    .describe("Origins whose web pages may call the API, such as `https://console.example.com`, or `*`"),
  LATCHKEY_SHUTDOWN_SECONDS: wholeNumber(1, 600, 25).describe("Time to finish requests after SIGTERM"),
  LATCHKEY_LOG_LEVEL: z
    .enum(["debug", "info", "warn", "error", "silent"])
    .default("info")
    .describe("Least level logged"),
});

export type Config = z.infer<typeof environment>;

/** All problems with the configuration, one a line, by the variables' names. Values are never repeated. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Read the configuration.
 * @param required variables that the functions of this process cannot do without, besides those everybody needs
 * @throws {ConfigError} naming every variable that is missing, wrong or unknown
 */
export function parseConfig(env: Environment, required: readonly (keyof Config)[] = []): Config {
  const isUnknown = (name: string) => name.startsWith("LATCHKEY_") && !(name in environment.shape);
  return parse(environment, env, contradictions, (isSet) => [
    ...Object.keys(env)
      .filter(isUnknown)
      .map((name) => `${name}: unknown variable`),
    ...required.filter((name) => !isSet(name)).map((name) => `${name}: missing`),
  ]);
}

/** Only what is about the store. @throws {ConfigError} */
export const parseRedisConfig = (env: Environment): RedisConfig => parse(redisEnvironment, env);

function parse<Schema extends typeof environment | typeof redisEnvironment>(
  schema: Schema,
  env: Environment,
  contradictions: (config: z.infer<Schema>) => string[] = () => [],
  more: (isSet: (name: string) => boolean) => string[] = () => [],
): z.infer<Schema> {
  // An empty variable counts as not set, as in a manifest whose optional Secret is missing.
  const set = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ""),
  );
  const isSet = (name: string) => name in set;
  // Done once, so compiling code for it would cost more of a start than it saves.
  const parsed = schema.safeParse(set, { jitless: true });
  const problems = [...more(isSet), ...redisProblems(isSet)];
  for (const { path, message } of parsed.error?.issues ?? []) {
    const variable = String(path[0]);
    problems.push(`${variable}: ${isSet(variable) ? [...path.slice(1), message].join(" ") : "missing"}`);
  }
  if (parsed.data !== undefined) problems.push(...contradictions(parsed.data as z.infer<Schema>));
  if (problems.length > 0) throw new ConfigError([...new Set(problems)].join("\n"));
  return parsed.data as z.infer<Schema>;
}

/** What only shows when several variables are seen together. */
function contradictions(config: Config): string[] {
  const problems: string[] = [];
  const publicKeys = config.LATCHKEY_JWT_PUBLIC_KEYS.keys;
  const signing = config.LATCHKEY_JWT_PRIVATE_KEY;
  if (signing !== undefined && !publicKeys.some(({ kid, x }) => kid === signing.kid && x === signing.x)) {
    problems.push("LATCHKEY_JWT_PRIVATE_KEY: its public half is not among LATCHKEY_JWT_PUBLIC_KEYS");
  }
  if (config.LATCHKEY_MODE === "production") {
    if (publicKeys.some(({ kid }) => kid.startsWith(DEMO_MARK))) {
      problems.push("LATCHKEY_JWT_PUBLIC_KEYS: holds a demo key, which production refuses");
    }
    if (config.LATCHKEY_API_KEY_PEPPERS.some(([version]) => version.startsWith(DEMO_MARK))) {
      problems.push("LATCHKEY_API_KEY_PEPPERS: holds a demo pepper, which production refuses");
    }
  }
  return problems;
}
