import fc from "fast-check";
import { expect, test } from "vitest";
import { ConfigError, environment, parseConfig, parseRedisConfig } from "../../shared/config.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { minReplicasOf } from "../../shared/redis-config.ts";

type Env = Record<string, string | undefined>;

const secrets = await makeSecrets("k1");
const demo = await makeSecrets("demo");
const base: Env = { REDIS_URL: "redis://localhost", ...secrets };
const PEPPER = "p".repeat(43);
const names = Object.keys(environment.shape);

type Jwk = Record<string, unknown>;
const publicKeyOf = (env: Env): Jwk => JSON.parse(env["LATCHKEY_JWT_PUBLIC_KEYS"] ?? "").keys[0];
const privateKeyOf = (env: Env): Jwk => JSON.parse(env["LATCHKEY_JWT_PRIVATE_KEY"] ?? "");
const keysJson = (...keys: unknown[]): string => JSON.stringify({ keys });
const keySet = (...keys: unknown[]): Env => ({ LATCHKEY_JWT_PUBLIC_KEYS: keysJson(...keys) });
const ours = publicKeyOf(base);
const p256: Jwk = { kid: "k2", alg: "ES256", kty: "EC", crv: "P-256", x: "x".repeat(43), y: "y".repeat(43) };

/** What is wrong with the configuration, a line each. */
function problems(env: Env, required: Parameters<typeof parseConfig>[1] = []): string[] {
  try {
    parseConfig({ ...base, ...env }, required);
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message.split("\n");
  }
}
/** The variables that are named as wrong. */
const wrong = (env: Env, required: Parameters<typeof parseConfig>[1] = []): string[] => [
  ...new Set(problems(env, required).map((line) => line.slice(0, line.indexOf(":")))),
];
/** Those values for which a variable, and it alone, is named as wrong. */
const refused = (name: string, values: readonly string[]): string[] =>
  values.filter((value) => wrong({ [name]: value }).join() === name);
const taken = (name: string, values: readonly string[]): string[] =>
  values.filter((value) => problems({ [name]: value }).length === 0);

test("what is not set has a default, and only three variables have none", () => {
  const needed = ["REDIS_URL", "LATCHKEY_JWT_PUBLIC_KEYS", "LATCHKEY_API_KEY_PEPPERS"];
  expect(wrong(Object.fromEntries(names.map((name) => [name, undefined])))).toEqual(needed);
  const config = Object.entries(parseConfig({ ...base, LATCHKEY_JWT_PRIVATE_KEY: "" }));
  expect(Object.fromEntries(config.filter(([name]) => !needed.includes(name)))).toEqual({
    PORT: 8080,
    REDIS_MASTER_NAME: "latchkey",
    REDIS_TLS: false,
    AUDIT_OUTBOX_MAX_ENTRIES: 1_000_000,
    AUDIT_OVERFLOW: "refuse",
    LATCHKEY_MODE: "production",
    LATCHKEY_JWT_ISSUER: "latchkey",
    LATCHKEY_JWT_AUDIENCE: "latchkey",
    LATCHKEY_JWT_LIFETIME_SECONDS: 1_800,
    LATCHKEY_VALUE_MAX_BYTES: 262_144,
    LATCHKEY_LOGIN_MAX_FAILURES: 10,
    LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS: 100,
    LATCHKEY_LOGIN_WINDOW_SECONDS: 900,
    LATCHKEY_ARGON2_CONCURRENCY: 2,
    LATCHKEY_TRUSTED_PROXIES: 0,
    LATCHKEY_SHUTDOWN_SECONDS: 25,
    LATCHKEY_LOG_LEVEL: "info",
  });
});

test("an empty variable counts as one that is not set", () => {
  const empty = Object.fromEntries(names.map((name) => [name, ""]));
  const unset = Object.fromEntries(names.map((name) => [name, undefined]));
  expect(problems(empty)).toEqual(problems(unset));
  for (const name of names) {
    expect(problems({ [name]: "" })).toEqual(problems({ [name]: undefined }));
  }
});

test("every variable that is wrong, missing or unknown is named in one go", () => {
  const free = /_(ISSUER|AUDIENCE|NAME|USERNAME|PASSWORD)$/;
  const values = names.map((name) => [name, free.test(name) ? "x".repeat(1_025) : "?"]);
  const env = { ...Object.fromEntries(values), PORT: "", LATCHKEY_TYPO: "1", LATCHKEY_OTHER: "2" };
  const others = names.filter((name) => name !== "PORT");
  expect(wrong(env).sort()).toEqual([...others, "LATCHKEY_TYPO", "LATCHKEY_OTHER"].sort());
  expect(problems({ ...env, LATCHKEY_JWT_PUBLIC_KEYS: "" })).toContain("LATCHKEY_JWT_PUBLIC_KEYS: missing");
  expect(problems(env)).toContain("LATCHKEY_TYPO: unknown variable");
});

test("a variable that only some functions need is missing only for those", () => {
  const env = { LATCHKEY_JWT_PRIVATE_KEY: undefined };
  expect(problems(env)).toEqual([]);
  expect(problems(env, ["LATCHKEY_JWT_PRIVATE_KEY"])).toEqual(["LATCHKEY_JWT_PRIVATE_KEY: missing"]);
  expect(problems({}, ["LATCHKEY_JWT_PRIVATE_KEY"])).toEqual([]);
  expect(problems({ LOKI_URL: "" }, ["LOKI_URL"])).toEqual(["LOKI_URL: missing"]);
});

test("no message ever repeats a value, or a name inside a value, of any variable", () => {
  const shapes: ((marker: string) => string)[] = [
    (m) => m,
    (m) => `${m}\n${m}`,
    (m) => `redis:/${m}`,
    (m) => `12${m}`,
    (m) => `{${m}`,
    (m) => JSON.stringify(m),
    (m) => JSON.stringify({ [m]: m, keys: m }),
    (m) => keysJson({ [m]: m }, m, { kid: m, alg: m, kty: m, crv: m, x: m, y: m, d: m }),
    (m) => JSON.stringify({ ...ours, d: m, alg: m }),
    (m) => keysJson({ ...ours, kid: m, alg: "ES256", d: m }, { ...p256, kid: m, x: m, alg: "EdDSA" }),
    (m) => keysJson({ ...ours, kid: m, x: m }, { ...ours, kid: m, x: m }),
    (m) => JSON.stringify({ ...privateKeyOf(base), kid: m, x: m, d: m }),
    (m) => `v1:${m}`,
    (m) => `v1:${m.repeat(3)},v1:${m.repeat(3)}`,
    (m) => `demo:${m.repeat(3)}`,
  ];
  const marker = fc.stringMatching(/^[g-z]{20}$/);
  const value = fc.tuple(marker, fc.constantFrom(...shapes)).map(([m, shape]) => ({ m, text: shape(m) }));
  const name = fc.constantFrom(...names, "LATCHKEY_TYPO");
  fc.assert(
    fc.property(fc.dictionary(name, value, { maxKeys: names.length, size: "max" }), (values) => {
      const set = Object.entries(values);
      const message = problems(Object.fromEntries(set.map(([name, { text }]) => [name, text]))).join("\n");
      expect(set.filter(([, { m }]) => message.includes(m))).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test("a misspelled LATCHKEY_ variable is refused, and what is not ours is none of our business", () => {
  const unknown = ["", "MODES", "mode", "JWT_PRIVATE", "__proto__"].map((name) => `LATCHKEY_${name}`);
  expect(wrong(Object.fromEntries(unknown.map((name) => [name, "1"])))).toEqual(unknown);
  expect(problems({ PATH: "x", REDIS_PORT: "x", port: "x", XLATCHKEY_MODE: "x", LATCHKEY: "x" })).toEqual([]);
});

test.each([
  ["PORT", 0, 65_535],
  ["AUDIT_OUTBOX_MAX_ENTRIES", 1, 100_000_000],
  ["LATCHKEY_JWT_LIFETIME_SECONDS", 60, 86_400],
  ["LATCHKEY_VALUE_MAX_BYTES", 1, 16_777_216],
  ["LATCHKEY_LOGIN_MAX_FAILURES", 1, 10_000],
  ["LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS", 1, 100_000],
  ["LATCHKEY_LOGIN_WINDOW_SECONDS", 1, 86_400],
  ["LATCHKEY_ARGON2_CONCURRENCY", 1, 64],
  ["LATCHKEY_TRUSTED_PROXIES", 0, 10],
  ["LATCHKEY_SHUTDOWN_SECONDS", 1, 600],
] as const)("%s is a whole number from %i to %i", (name, min, max) => {
  for (const value of [min, min + 1, max - 1, max]) {
    expect(parseConfig({ ...base, [name]: String(value) })[name]).toBe(value);
  }
  const beyond = [min - 1, max + 1, 10 ** 12].map(String);
  const garbage = [`+${max}`, `${max}.0`, ..."1.5 1e1 0x1 1_0 １ ٣ NaN ?".split(" "), " 1", "1 ", "1\n"];
  expect(refused(name, [...beyond, ...garbage])).toEqual([...beyond, ...garbage]);
});

test("trusted proxies are a number or networks, and nothing near those", () => {
  const name = "LATCHKEY_TRUSTED_PROXIES";
  const networks = parseConfig({ ...base, [name]: "127.0.0.0/8,10.244.0.0/16,fd00::/8,0.0.0.0/0" })[name];
  expect(networks).toMatchObject([{ bits: 8 }, { bits: 16 }, { bits: 8 }, { bits: 0 }]);
  const wrong = [
    "10.0.0.0",
    "10.0.0.1/8",
    "10.0.0.0/33",
    "fd00::/129",
    "::1/127",
    "10.0.0.0/8,",
    "x/8",
    "1.2.3/8",
  ];
  wrong.push("10.0.0.0/8, 10.0.0.0/8", "10.0.0.0/-1", "10.0.0.0/8/8", Array(17).fill("10.0.0.0/8").join());
  expect(refused(name, wrong)).toEqual(wrong);
});

test("texts are taken when they are what their variable names, and nothing near it", () => {
  const texts: [string, good: string[], bad: string[]][] = [
    ["AUDIT_OVERFLOW", ["refuse", "continue"], ["Refuse", "drop", "continue "]],
    ["LATCHKEY_MODE", ["production", "local"], ["Production", "prod", "local ", "test"]],
    ["LATCHKEY_LOG_LEVEL", ["debug", "info", "warn", "error", "silent"], ["trace", "INFO", "10"]],
    [
      "REDIS_URL",
      ["redis://h", "rediss://:p@h:1/1", "unix:///s"],
      ["h:6379", "http://h", "redis://", "redis:h"],
    ],
    ["LATCHKEY_JWT_ISSUER", ["x", "x".repeat(256)], ["x".repeat(257)]],
    ["LATCHKEY_JWT_AUDIENCE", ["x", "x".repeat(256)], ["x".repeat(257)]],
    ["LATCHKEY_JWT_PUBLIC_KEYS", [], ["{", "[]", "null", '"x"', "{}", '{"keys":{}}']],
    ["LATCHKEY_JWT_PRIVATE_KEY", [], ["{", "[]", "null", '"x"', "{}", JSON.stringify(ours)]],
  ];
  for (const [name, good, bad] of texts) {
    expect([taken(name, good), refused(name, bad)]).toEqual([good, bad]);
  }
});

test("production refuses demo keys and peppers wherever they stand, and a local run takes them", () => {
  const pepper = (...all: string[]) => ({
    LATCHKEY_API_KEY_PEPPERS: all.map((v) => `${v}:${PEPPER}`).join(),
  });
  const demos: [string, Env][] = [
    ["LATCHKEY_JWT_PUBLIC_KEYS", keySet(ours, publicKeyOf(demo))],
    ["LATCHKEY_JWT_PUBLIC_KEYS", keySet(publicKeyOf(demo), ours)],
    ["LATCHKEY_JWT_PUBLIC_KEYS", keySet(ours, { ...p256, kid: "demo-2" })],
    ["LATCHKEY_API_KEY_PEPPERS", pepper("demo")],
    ["LATCHKEY_API_KEY_PEPPERS", pepper("v1", "demo2")],
  ];
  for (const [name, env] of demos) {
    expect(wrong(env)).toEqual([name]);
    expect(wrong({ ...env, LATCHKEY_MODE: "production" })).toEqual([name]);
    expect(problems({ ...env, LATCHKEY_MODE: "local" })).toEqual([]);
  }
  expect(wrong(demo)).toEqual(["LATCHKEY_JWT_PUBLIC_KEYS", "LATCHKEY_API_KEY_PEPPERS"]);
  expect(problems({ ...demo, LATCHKEY_MODE: "local" })).toEqual([]);
});

test("a private key whose public half is not configured is refused, under another id or with another value", () => {
  const other = publicKeyOf(demo);
  for (const key of [{ ...ours, kid: "k9" }, other, { ...other, kid: "k1" }, p256]) {
    expect(wrong({ ...keySet(key), LATCHKEY_MODE: "local" })).toEqual(["LATCHKEY_JWT_PRIVATE_KEY"]);
  }
  expect(problems(keySet(p256, ours))).toEqual([]);
});

test("there is one way to the store: a URL, Sentinels and pods, or a cluster", () => {
  const [sentinels, nodes] = [{ REDIS_SENTINELS: "a:1" }, { REDIS_NODES: "b:2,[::1]:3" }];
  const cluster = { REDIS_CLUSTER_NODES: "c:4" };
  const none = { REDIS_URL: undefined };
  for (const way of [sentinels, nodes, { ...sentinels, ...nodes, REDIS_SERVICE: "d:5" }, cluster]) {
    expect(problems({ ...none, ...way })).toEqual([]);
  }
  expect(wrong(none)).toEqual(["REDIS_URL"]);
  expect(wrong({ ...none, REDIS_SERVICE: "d:5" })).toEqual(["REDIS_URL", "REDIS_SERVICE"]);
  expect(wrong({ ...sentinels, ...nodes })).toEqual(["REDIS_SENTINELS", "REDIS_NODES"]);
  expect(wrong({ ...none, ...nodes, ...cluster })).toEqual(["REDIS_CLUSTER_NODES"]);
  expect(parseRedisConfig({ ...nodes, REDIS_PASSWORD: "p" })).toMatchObject({
    REDIS_NODES: [
      { host: "b", port: 2 },
      { host: "::1", port: 3 },
    ],
    REDIS_MASTER_NAME: "latchkey",
    REDIS_TLS: false,
  });
});

test("the URL of a Redis is one that can be read, and changes nothing but where it is and who asks", () => {
  for (const url of [
    "redis://h",
    "rediss://u:p%40ss@h:1/2",
    "redis://:p@[::1]:6379",
    "unix:///run/redis.sock",
  ])
    expect(problems({ REDIS_URL: url })).toEqual([]);
  const bad = ["redis://", "unix://", "http://h", "redis://h:99999", "redis://:half%4@h", "redis://:what?@h"];
  for (const url of [...bad, "redis://h?autoResendUnfulfilledCommands=true", "redis://h#1"])
    expect(wrong({ REDIS_URL: url })).toEqual(["REDIS_URL"]);
});

test("an address is a host and a port, and a list of them has an end", () => {
  const sixteen = Array.from({ length: 16 }, (_, i) => `redis-${i}.redis-headless:6379`).join();
  const bad = [
    "redis",
    "redis:",
    ":6379",
    "redis:0",
    "redis:65536",
    "redis:1:2",
    "::1:6379",
    "re dis:1",
    "a:1,",
    ",a:1",
  ];
  const way = { REDIS_URL: undefined, REDIS_NODES: "a:1" };
  for (const value of [sixteen, "10.0.0.1:1", "[fe80::1]:65535"]) {
    expect(problems({ ...way, REDIS_NODES: value })).toEqual([]);
  }
  for (const value of [...bad, `${sixteen},a:1`])
    expect(wrong({ ...way, REDIS_NODES: value })).toEqual(["REDIS_NODES"]);
  for (const value of [...bad, "a:1,b:2"])
    expect(wrong({ ...way, REDIS_SERVICE: value })).toEqual(["REDIS_SERVICE"]);
});

test("an operation waits for one replica, unless there is a single Redis, or somebody says otherwise", () => {
  const replicas = (env: Env) => minReplicasOf(parseRedisConfig(env));
  expect(replicas({ REDIS_URL: "redis://h" })).toBe(0);
  expect(replicas({ REDIS_SENTINELS: "a:1" })).toBe(1);
  expect(replicas({ REDIS_CLUSTER_NODES: "a:1" })).toBe(1);
  expect(replicas({ REDIS_URL: "redis://h", REDIS_MIN_REPLICAS: "2" })).toBe(2);
  expect(replicas({ REDIS_NODES: "a:1", REDIS_MIN_REPLICAS: "0" })).toBe(0);
  expect(refused("REDIS_MIN_REPLICAS", ["-1", "6", "1.0", "one"])).toHaveLength(4);
});

test("public keys are 1 to 8 of Ed25519 or P-256, each with its own id and the algorithm that fits it", () => {
  const many = (count: number) => Array.from({ length: count }, (_, i) => ({ ...p256, kid: `p${i}` }));
  const good = [[ours], [p256], [ours, p256], [ours, ...many(7)]];
  expect(good.flatMap((keys) => problems({ ...keySet(...keys), LATCHKEY_JWT_PRIVATE_KEY: "" }))).toEqual([]);
  const changes: [Jwk, Jwk[]][] = [
    [ours, [{ alg: "ES256" }, { alg: undefined }, { kid: undefined }, { kid: "" }, { kid: "k".repeat(65) }]],
    [ours, [{ crv: "X25519" }, { crv: "P-256" }, { x: undefined }, { x: 1 }, { kty: "EC" }, { kty: "RSA" }]],
    [p256, [{ crv: "P-384" }, { y: undefined }, { alg: "EdDSA" }, { alg: "RS256" }]],
  ];
  const keys = changes.flatMap(([key, wrong]) => wrong.map((change) => ({ ...key, ...change })));
  for (const bad of [[], [ours, ...many(8)], [ours, ours], ...keys.map((key) => [key])]) {
    expect(wrong({ ...keySet(...bad), LATCHKEY_JWT_PRIVATE_KEY: "" })).toEqual(["LATCHKEY_JWT_PUBLIC_KEYS"]);
  }
});

test("a private half that strays into the public keys is left behind", () => {
  const { LATCHKEY_JWT_PUBLIC_KEYS } = parseConfig({ ...base, ...keySet(privateKeyOf(base)) });
  expect(LATCHKEY_JWT_PUBLIC_KEYS.keys).toEqual([ours]);
});

test("peppers are 1 to 8 versions with at least 32 bytes each, none named twice", () => {
  const some = (count: number) => Array.from({ length: count }, (_, i) => `v${i}:${PEPPER}`).join();
  const good = [some(1), some(8), `v:${PEPPER}ppp`, `${"v".repeat(16)}:-_${PEPPER}`];
  expect(taken("LATCHKEY_API_KEY_PEPPERS", good)).toEqual(good);
  const config = parseConfig({ ...base, LATCHKEY_API_KEY_PEPPERS: some(2) });
  expect(config.LATCHKEY_API_KEY_PEPPERS.join(" ")).toBe(`v0,${PEPPER} v1,${PEPPER}`);
  const versions = ["", "V1", "v-1", "v".repeat(17), " v"].map((version) => `${version}:${PEPPER}`);
  const ends = ["", "p,", "p=", "p ", "p\n", `p,v:${PEPPER}q`].map((end) => `v:${PEPPER.slice(1)}${end}`);
  const bad = [some(9), PEPPER, ...versions, ...ends];
  expect(refused("LATCHKEY_API_KEY_PEPPERS", bad)).toEqual(bad);
});

test("origins of web pages are written as browsers send them", () => {
  const good = [
    "*",
    "https://a.example",
    "http://localhost:5173",
    "https://a.example,https://b.example:8443",
  ];
  const bad = [
    "https://a.example/",
    "https://A.example",
    "https://a.example:443",
    "a.example",
    "null",
    "*,https://a.example",
    "https://a.example, https://b.example",
    "ftp://a.example",
    "https://*.example",
    "https://u@a.example",
  ];
  expect(taken("LATCHKEY_CORS_ORIGINS", good)).toEqual(good);
  expect(refused("LATCHKEY_CORS_ORIGINS", bad)).toEqual(bad);
});
