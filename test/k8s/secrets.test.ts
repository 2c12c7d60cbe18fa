/** `npm run secrets`: the Secrets of a cluster, and rotating them without an outage. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { type Config, parseConfig } from "../../shared/config.ts";
import type { ClusterSecret } from "../../shared/node/dev/cluster-secrets.ts";
import { retire, rotate, rotated } from "../../shared/node/dev/rotate-secrets.ts";
import { createKeyHasher } from "../../shared/node/key-hash.ts";
import { createTokenIssuer, createTokenVerifier } from "../../shared/tokens.ts";

type Secrets = ReadonlyMap<string, ClusterSecret>;

const secretsScript = (args: readonly string[], input = ""): SpawnSyncReturns<string> =>
  spawnSync("node", ["shared/node/dev/print-secrets.ts", ...args], {
    input,
    encoding: "utf8",
    timeout: 20_000,
  });

function printed(args: readonly string[], input?: string): Secrets {
  const { stdout, stderr, status } = secretsScript(args, input);
  expect({ stderr, status }).toMatchObject({ status: 0 });
  return byName((JSON.parse(stdout) as { items: readonly ClusterSecret[] }).items);
}
const byName = (items: readonly ClusterSecret[]): Secrets =>
  new Map(items.map((one) => [one.metadata.name, one]));

/** One step further. */
const next = async (what: (typeof rotated)[number], secrets: Secrets): Promise<Secrets> =>
  byName((await rotate(what, stored(secrets), `next${randomBytes(2).toString("hex")}`)).secrets);

/** As `kubectl get secret latchkey-jwt latchkey-keys --output json` prints what was created from these. */
const stored = (secrets: Secrets, resourceVersion = "7"): string =>
  JSON.stringify({
    kind: "List",
    items: ["latchkey-jwt", "latchkey-keys"].map((name) => {
      const { metadata, stringData } = secrets.get(name) as ClusterSecret;
      const data = Object.entries(stringData).map(([key, value]) => [
        key,
        Buffer.from(value).toString("base64"),
      ]);
      const { annotations } = metadata;
      return {
        kind: "Secret",
        metadata: { name, uid: "1c9", resourceVersion, ...(annotations && { annotations }) },
        data: Object.fromEntries(data),
      };
    }),
  });

/** The configuration of a function that gets these Secrets, all of their keys, as `envFrom` gives them. */
const configOf = (secrets: Secrets, ...names: readonly string[]): Config =>
  parseConfig({
    REDIS_URL: "redis://unused",
    ...Object.assign({}, ...names.map((name) => secrets.get(name)?.stringData)),
  });
const names = { issuer: "latchkey", audience: "latchkey" };
const ada = { tenantId: "acme", userId: "usr_0123456789abcdef", role: "admin", epoch: 0 } as const;

let created: Secrets;
beforeAll(() => {
  created = printed(["--kubernetes"]);
});

test("--kubernetes prints every Secret that the manifests name, in their namespace, no value twice but the two that must agree", () => {
  const keys = [...created.values()].map((one) => [one.metadata.name, Object.keys(one.stringData)]);
  expect(Object.fromEntries(keys)).toEqual({
    "latchkey-jwt": ["LATCHKEY_JWT_PRIVATE_KEY"],
    "latchkey-keys": ["LATCHKEY_JWT_PUBLIC_KEYS", "LATCHKEY_API_KEY_PEPPERS"],
    "latchkey-redis": ["REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD"],
    "redis-users": [
      "LATCHKEY_PASSWORD",
      "LATCHKEY_SENTINEL_PASSWORD",
      "REPLICA_PASSWORD",
      "SENTINEL_PASSWORD",
      "HEALTH_PASSWORD",
      "ADMIN_PASSWORD",
    ],
    "grafana-admin": ["GF_SECURITY_ADMIN_USER", "GF_SECURITY_ADMIN_PASSWORD", "GF_SECURITY_SECRET_KEY"],
  });
  expect([...created.values()].map(({ kind, metadata }) => [kind, metadata.namespace])).toEqual(
    Array(5).fill(["Secret", "latchkey"]),
  );
  const own = created.get("latchkey-redis")?.stringData;
  const users = created.get("redis-users")?.stringData;
  expect(own?.["REDIS_PASSWORD"]).toBe(users?.["LATCHKEY_PASSWORD"]);
  expect(own?.["REDIS_SENTINEL_PASSWORD"]).toBe(users?.["LATCHKEY_SENTINEL_PASSWORD"]);
  const passwords = Object.values(users ?? {});
  expect(new Set(passwords).size).toBe(6);
  for (const one of passwords) expect(one).toMatch(/^[0-9a-f]{64}$/);
});

test("a function that gets them starts, and two runs have nothing in common", () => {
  expect(() => configOf(created, "latchkey-jwt", "latchkey-keys", "latchkey-redis")).not.toThrow();
  const valuesOf = (secrets: Secrets) =>
    [...secrets.values()]
      .flatMap(({ stringData }) => Object.values(stringData))
      .filter((value) => value !== "admin");
  const first = valuesOf(created);
  expect(valuesOf(printed(["--kubernetes"])).filter((value) => first.includes(value))).toEqual([]);
});

test("applied by mistake over Secrets that exist they are refused: each carries a uid that no object has", () => {
  // The API server drops a uid at creation and answers a different one with a conflict.
  for (const { metadata } of created.values()) {
    expect(metadata.uid).toMatch(/./);
    expect(metadata.uid).not.toMatch(/^[0-9a-f]{8}-/);
    expect(metadata.resourceVersion).toBeUndefined();
  }
});

test("the JWT key is rotated in three steps, in each of which every token of the step before and after is accepted", async () => {
  const known = await next("jwt", created);
  const used = await next("jwt", known);
  const retired = byName(retire("jwt", stored(used)).secrets);
  const steps = [created, known, used, retired];

  const parties = await Promise.all(
    steps.map(async (secrets) => {
      const config = configOf(secrets, "latchkey-jwt", "latchkey-keys");
      if (config.LATCHKEY_JWT_PRIVATE_KEY === undefined) throw new Error("no private key");
      return {
        issue: await createTokenIssuer(config.LATCHKEY_JWT_PRIVATE_KEY, { ...names, lifetime: 60 }),
        verify: await createTokenVerifier(config.LATCHKEY_JWT_PUBLIC_KEYS.keys, names),
        kid: config.LATCHKEY_JWT_PRIVATE_KEY.kid,
      };
    }),
  );
  expect(parties.map(({ kid }) => kid === parties[0]?.kid)).toEqual([true, true, false, false]);
  for (const [at, issuer] of parties.entries()) {
    const { token } = await issuer.issue(ada);
    for (const verifier of parties.slice(Math.max(0, at - 1), at + 2)) {
      expect(await verifier.verify(token)).toMatchObject({ tenantId: "acme" });
    }
  }
  expect(configOf(retired, "latchkey-keys").LATCHKEY_JWT_PUBLIC_KEYS.keys).toHaveLength(1);
  // The next key waits where only token-issue looks, and is no variable of ours.
  expect(Object.keys(known.get("latchkey-jwt")?.stringData ?? {})).toEqual([
    "LATCHKEY_JWT_PRIVATE_KEY",
    "NEXT_JWT_PRIVATE_KEY",
  ]);
  expect(known.get("latchkey-keys")?.stringData["LATCHKEY_JWT_PUBLIC_KEYS"]).not.toContain('"d"');
});

test("the pepper is rotated in three steps, in each of which every hash of the step before and after is known", async () => {
  const known = await next("peppers", created);
  const used = await next("peppers", known);
  const retired = byName(retire("peppers", stored(used)).secrets);

  const hashes = [created, known, used, retired].map((secrets) =>
    createKeyHasher(configOf(secrets, "latchkey-keys").LATCHKEY_API_KEY_PEPPERS)("a key"),
  );
  const versions = [created, known, used, retired].map((secrets) =>
    configOf(secrets, "latchkey-keys").LATCHKEY_API_KEY_PEPPERS.map(([version]) => version),
  );
  const [old, fresh] = versions[1] as [string, string];
  expect(versions).toEqual([[old], [old, fresh], [fresh, old], [fresh]]);
  for (const [at, all] of hashes.entries()) {
    const [current] = all;
    for (const beside of hashes.slice(Math.max(0, at - 1), at + 2)) expect(beside).toContainEqual(current);
  }
});

test("rotating one leaves the other as it is, and what is replaced is what was read", () => {
  const after = printed(["--rotate", "peppers"], stored(created, "4711"));
  for (const one of after.values()) {
    expect(one.metadata).toMatchObject({ namespace: "latchkey", resourceVersion: "4711" });
    expect(one.metadata.uid).toBeUndefined();
  }
  const key = "LATCHKEY_JWT_PUBLIC_KEYS";
  expect(JSON.parse(after.get("latchkey-keys")?.stringData[key] as string)).toEqual(
    JSON.parse(created.get("latchkey-keys")?.stringData[key] as string),
  );
  expect(after.get("latchkey-jwt")?.stringData).toEqual(created.get("latchkey-jwt")?.stringData);
});

test.each(rotated)("the old %s are not retired while the new ones are not in use", async (what) => {
  const known = await next(what, created);
  const { status, stdout, stderr } = secretsScript(["--retire", what], stored(known));
  expect({ status, stdout, stderr }).toEqual({
    status: 1,
    stdout: "",
    stderr: `The new one is known and not yet in use; first: --rotate ${what}\n`,
  });
});

test("what makes no sense is refused without a word of what was read", () => {
  for (const args of [
    ["--rotate", "everything"],
    ["--kubernetes", "--rotate", "jwt"],
  ]) {
    const { status, stdout, stderr } = secretsScript(args);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(/^Usage: npm run --silent secrets /);
  }
  for (const input of ["s3cr3t", stored(created).replace("latchkey-jwt", "s3cr3t")]) {
    const { status, stdout, stderr } = secretsScript(["--rotate", "jwt"], input);
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: "Standard input is not what kubectl prints of latchkey-jwt and latchkey-keys\n",
    });
  }
});
