/** Who is let in, on every route, and what those who are not are told. */
import { importJWK, SignJWT } from "jose";
import { afterAll, describe, expect, test } from "vitest";
import { crc32, newApiKey } from "../shared/api-key.ts";
import { toBase62 } from "../shared/formats.ts";
import { createKeyHasher } from "../shared/node/key-hash.ts";
import { type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness, type Send, type TestTenant } from "./support/harness.ts";
import { bodyOf, comparable, expectProblem, samples } from "./support/samples.ts";

const api = await createHarness();
afterAll(() => api.close());

const all: readonly Route[] = routes;
const closed = all.filter((route) => route.credential !== "none");
const forKeys = all.filter((route) => route.credential === "any");
const sampleOf = (route: Route, tenant: TestTenant) => samples[route.id as RouteId](api, tenant);

/** Send a route's sample with another credential and tell what it left in the tenant's trail. */
async function attempt(route: Route, tenant: TestTenant, as: string, spoil: object = {}) {
  const sample = await sampleOf(route, tenant);
  const before = (await api.trail(tenant)).length;
  const answer = await api.send(route.method, sample.path, { as, ...bodyOf(sample), ...spoil });
  return { answer, entries: (await api.trail(tenant)).slice(before) };
}

test.each(all)(
  "$id: its sample succeeds, so that the refusals below are due to what was spoilt",
  async (route) => {
    const tenant = await api.tenant();
    const { status } = await sampleOf(route, tenant);
    const { answer } = await attempt(route, tenant, tenant.admin.token);
    expect(answer.status).toBe(status);
  },
);

describe.each(closed)("$id: who is not let in", (route) => {
  test("no credential: 401 with a challenge that names no error", async () => {
    const tenant = await api.tenant();
    const sample = await sampleOf(route, tenant);
    const before = await api.trail(tenant);
    const answer = await api.send(route.method, sample.path, bodyOf(sample));
    expectProblem(answer, 401, "unauthenticated");
    expect(answer.headers.get("www-authenticate")).toBe('Bearer realm="latchkey"');
    expect(await api.trail(tenant)).toEqual(before);
  });

  test.each([
    ["garbage", async () => "garbage"],
    ["an API key nobody made", async (tenant: TestTenant) => newApiKey("test", tenant.keys.tag).text],
    [
      "an API key of another environment",
      async (tenant: TestTenant) => newApiKey("live", tenant.keys.tag).text,
    ],
    ["a token of another key", async (tenant: TestTenant) => foreignToken(tenant)],
    ["a user of another tenant", async (tenant: TestTenant) => tokenFor(tenant, await api.tenant())],
  ])("%s: 401 invalid_token", async (_, credentialFor) => {
    const tenant = await api.tenant();
    const { answer } = await attempt(route, tenant, await credentialFor(tenant));
    expectProblem(answer, 401, "invalid_token");
    expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"');
  });

  test("two different credentials: 400; the same one twice is one", async () => {
    const tenant = await api.tenant();
    const other = { headers: { "x-api-key": newApiKey("test", tenant.keys.tag).text } };
    expectProblem(
      (await attempt(route, tenant, tenant.admin.token, other)).answer,
      400,
      "conflicting_credentials",
    );
    const { answer } = await attempt(route, tenant, tenant.admin.token, {
      headers: { "x-api-key": tenant.admin.token },
    });
    expect(answer.status).toBe((await sampleOf(route, tenant)).status);
  });

  test("a credential in the query is no credential", async () => {
    const tenant = await api.tenant();
    const sample = await sampleOf(route, tenant);
    const path = `${sample.path}?access_token=${tenant.admin.token}`;
    expectProblem(await api.send(route.method, path, bodyOf(sample)), 401, "unauthenticated");
  });

  test.each([
    ["a disabled user", "user_disabled", async (t: TestTenant) => setUser(t, "disabled", "1")],
    ["a user whose tokens were revoked", "token_revoked", async (t: TestTenant) => setUser(t, "epoch", "1")],
    [
      "a user of a suspended tenant",
      "tenant_suspended",
      (t: TestTenant) => api.redis.hset(t.keys.tenant, "status", "suspended"),
    ],
  ])("%s: 401 at once, and denied in the trail", async (_, reason, spoil) => {
    const tenant = await api.tenant();
    const sample = await sampleOf(route, tenant);
    expect((await attempt(route, tenant, tenant.admin.token)).answer.status).toBe(sample.status);
    const again = await sampleOf(route, tenant);
    await spoil(tenant);
    const before = (await api.trail(tenant)).length;
    const answer = await api.send(route.method, again.path, { as: tenant.admin.token, ...bodyOf(again) });
    expectProblem(answer, 401, "invalid_token");
    const entries = (await api.trail(tenant)).slice(before);
    expect(entries).toMatchObject([{ action: route.audit, outcome: "denied", details: { reason } }]);
    expect(answer.text).not.toContain(reason);
  });

  test("bad input of a stranger is answered like good input of a stranger", async () => {
    const tenant = await api.tenant();
    const sample = await sampleOf(route, tenant);
    const good = await api.send(route.method, sample.path, bodyOf(sample));
    const bad = await api.send(route.method, `${sample.path}?no=such`, badBody(route));
    expect(comparable(bad)).toEqual(comparable(good));
  });
});

describe.each(closed.filter((route) => route.credential === "user"))("$id: only for people", (route) => {
  test("an API key with every scope: 403, and denied in the trail", async () => {
    const tenant = await api.tenant();
    const key = await api.apiKey(tenant, { scopes: ["data:read", "data:write", "audit:read"] });
    const { answer, entries } = await attempt(route, tenant, key.text);
    expectProblem(answer, 403, "insufficient_scope");
    expect(entries).toMatchObject([{ outcome: "denied", actor: { type: "api_key", id: key.id } }]);
  });
});

describe.each(forKeys)("$id: for API keys too", (route) => {
  const scopes = [route.permission];

  test("a key with just its scope, by either header: as good as a user", async () => {
    const tenant = await api.tenant();
    const key = await api.apiKey(tenant, { scopes });
    const { answer, entries } = await attempt(route, tenant, key.text);
    expect(answer.status).toBe((await sampleOf(route, tenant)).status);
    expect(entries).toMatchObject([
      { actor: { type: "api_key", id: key.id }, username: tenant.admin.username },
    ]);
    const sample = await sampleOf(route, tenant);
    const alias = await api.send(route.method, sample.path, {
      headers: { "x-api-key": key.text },
      ...bodyOf(sample),
    });
    expect(alias.status).toBe(sample.status);
  });

  test("a key with every other scope: 403 naming the scope, and denied in the trail, also for bad input", async () => {
    const tenant = await api.tenant();
    const others = ["data:read", "data:write", "audit:read"].filter((scope) => scope !== route.permission);
    const key = await api.apiKey(tenant, { scopes: others });
    const { answer, entries } = await attempt(route, tenant, key.text);
    expectProblem(answer, 403, "insufficient_scope");
    expect(answer.headers.get("www-authenticate")).toContain(`scope="${route.permission}"`);
    expect(entries).toMatchObject([{ outcome: "denied", details: { reason: "insufficient_scope" } }]);
    const bad = await api.send(route.method, `${(await sampleOf(route, tenant)).path}?no=such`, {
      as: key.text,
      ...badBody(route),
    });
    expectProblem(bad, 403, "insufficient_scope");
  });

  test.each([
    [
      "deleted",
      "key_deleted",
      (t: TestTenant, id: string) => api.send("DELETE", `/api-keys/${id}`, { as: t.admin.token }),
    ],
    [
      "disabled",
      "key_disabled",
      (t: TestTenant, id: string) => api.redis.hset(t.keys.apiKeys, `${id}.disabled`, "1"),
    ],
    [
      "expired",
      "key_expired",
      (t: TestTenant, id: string) => api.redis.hset(t.keys.apiKeys, `${id}.expires_at`, "1"),
    ],
  ])("a %s key: 401 at once, and denied in the trail", async (_, reason, spoil) => {
    const tenant = await api.tenant();
    const key = await api.apiKey(tenant, { scopes });
    expect((await attempt(route, tenant, key.text)).answer.status).toBe(
      (await sampleOf(route, tenant)).status,
    );
    await spoil(tenant, key.id);
    const { answer, entries } = await attempt(route, tenant, key.text);
    expectProblem(answer, 401, "invalid_token");
    expect(entries).toMatchObject([{ outcome: "denied", actor: { id: key.id }, details: { reason } }]);
  });

  test("a key whose secret was guessed: 401, and nothing that a stranger could fill the trail with", async () => {
    const tenant = await api.tenant();
    const key = await api.apiKey(tenant, { scopes });
    const guess = forge(key.text, tenant.keys.tag);
    const { answer, entries } = await attempt(route, tenant, guess);
    expectProblem(answer, 401, "invalid_token");
    expect(entries).toEqual([]);
  });
});

describe.each(all.filter((route) => route.path.includes("{")))("$id: another tenant's", (route) => {
  test("is byte for byte the missing one, and stays as it is", async () => {
    const [owner, stranger] = [await api.tenant(), await api.tenant()];
    const theirs = await sampleOf(route, owner);
    const missing = theirs.path.replace(/[^/]+$/, (last) =>
      last.startsWith("key_") ? `key_${"0".repeat(16)}` : "none",
    );
    const send = (path: string) =>
      api.send(route.method, path, { as: stranger.admin.token, ...bodyOf(theirs) });
    const [foreign, absent] = [await send(theirs.path), await send(missing)];
    expect(foreign.status).toBe(404);
    expect(comparable(foreign)).toEqual(comparable(absent));
    expect([...foreign.headers].filter(([name]) => name !== "x-request-id")).toEqual(
      [...absent.headers].filter(([name]) => name !== "x-request-id"),
    );
    const own = await api.send(route.method, theirs.path, { as: owner.admin.token, ...bodyOf(theirs) });
    expect(own.status).toBe(theirs.status);
  });
});

test.each([
  [
    "a deleted key",
    async (t: TestTenant) => {
      const key = await api.apiKey(t);
      await api.send("DELETE", `/api-keys/${key.id}`, { as: t.admin.token });
      return key.text;
    },
  ],
  ["a disabled key", async (t: TestTenant) => (await api.apiKey(t, { enabled: false })).text],
  [
    "a disabled user",
    async (t: TestTenant) => {
      await api.redis.hset(t.keys.users, `${t.user.id}.disabled`, "1");
      return t.user.token;
    },
  ],
])("%s cannot fill the trail: 20 denials a minute stand in it, all are refused", async (_, credentialOf) => {
  const tenant = await api.tenant();
  const as = await credentialOf(tenant);
  const before = (await api.trail(tenant)).length;
  for (let i = 0; i < 25; i += 1)
    expectProblem(await api.send("GET", "/data/a", { as }), 401, "invalid_token");
  expect((await api.trail(tenant)).slice(before)).toHaveLength(20);
});

test("a user without the permission: 403 naming it, and denied in the trail", async () => {
  const tenant = await api.tenant();
  const before = (await api.trail(tenant)).length;
  const answer = await api.send("GET", "/audit", { as: tenant.user.token });
  expectProblem(answer, 403, "insufficient_scope");
  expect(answer.headers.get("www-authenticate")).toContain('scope="audit:read"');
  expect((await api.trail(tenant)).slice(before)).toMatchObject([
    { action: "list_audit", outcome: "denied" },
  ]);
});

test("nobody makes a key that can do more than they can", async () => {
  const tenant = await api.tenant();
  const json = { name: "spy", scopes: ["audit:read"] };
  expectProblem(
    await api.send("POST", "/api-keys", { as: tenant.user.token, json }),
    403,
    "insufficient_scope",
  );
  expect(await api.redis.exists(tenant.keys.apiKeys, tenant.keys.apiKeyIndex)).toBe(0);
});

/** As wrong as this route's input can be. */
const badBody = ({ method }: Route): Send =>
  method === "GET" ? {} : { raw: "{", headers: { "content-type": "text/x" } };

const setUser = (tenant: TestTenant, field: string, value: string) =>
  api.redis.hset(tenant.keys.users, `${tenant.admin.id}.${field}`, value);

const tokenFor = async (tenant: TestTenant, other: TestTenant): Promise<string> =>
  (await api.issue({ tenantId: tenant.id, userId: other.admin.id, role: "admin", epoch: 0 })).token;

/** A token of the tenant's admin, signed by any key. */
function sign(tenant: TestTenant, key: Parameters<SignJWT["sign"]>[0], more: object = {}): Promise<string> {
  const { kid, alg } = api.config.LATCHKEY_JWT_PRIVATE_KEY as { kid: string; alg: string };
  return new SignJWT({ tenant_id: tenant.id, role: "admin", epoch: 0, ...more })
    .setProtectedHeader({ alg, kid, typ: "at+jwt" })
    .setIssuer(api.config.LATCHKEY_JWT_ISSUER)
    .setAudience(api.config.LATCHKEY_JWT_AUDIENCE)
    .setSubject(tenant.admin.id)
    .setIssuedAt()
    .setExpirationTime("10m")
    .setJti("a test's")
    .sign(key);
}

/** A token that is right in everything but the key that signed it. */
async function foreignToken(tenant: TestTenant): Promise<string> {
  const { privateKey } = (await crypto.subtle.generateKey("Ed25519", true, ["sign"])) as CryptoKeyPair;
  return sign(tenant, privateKey);
}

/** A key with the id of a real one and another secret, checksum and all. */
function forge(text: string, tag: string): string {
  const start = text.slice(0, "lk_test_".length + 27);
  const body = start + newApiKey("test", tag).text.slice(start.length, start.length + 27);
  return `${body}_${toBase62(BigInt(crc32(body)), 6)}`;
}

test("a token of a tenant whose tag belongs to another tenant: 401", async () => {
  const tenant = await api.tenant();
  expect((await api.send("GET", "/users/me", { as: tenant.admin.token })).status).toBe(200);
  await api.redis.hset(tenant.keys.tenant, "id", `t-${crypto.randomUUID()}`);
  expectProblem(await api.send("GET", "/users/me", { as: tenant.admin.token }), 401, "invalid_token");
});

test("a key of a suspended tenant: 401 at once, and denied in the trail", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  await api.redis.hset(tenant.keys.tenant, "status", "suspended");
  const before = (await api.trail(tenant)).length;
  expectProblem(await api.send("GET", "/data/none", { as: key.text }), 401, "invalid_token");
  expect((await api.trail(tenant)).slice(before)).toMatchObject([
    { outcome: "denied", actor: { id: key.id }, details: { reason: "tenant_suspended" } },
  ]);
});

test("a deleted key whose secret was guessed leaves nothing in the trail", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  await api.send("DELETE", `/api-keys/${key.id}`, { as: tenant.admin.token });
  const before = await api.trail(tenant);
  const guess = forge(key.text, tenant.keys.tag);
  expectProblem(await api.send("GET", "/data/none", { as: guess }), 401, "invalid_token");
  expect(await api.trail(tenant)).toEqual(before);
});

test("a key of another environment is refused, even if the store knew it", async () => {
  const tenant = await api.tenant();
  const key = newApiKey("live", tenant.keys.tag);
  const made = await api.apiKey(tenant);
  const [hashed] = createKeyHasher(api.config.LATCHKEY_API_KEY_PEPPERS)(key.text);
  for (const [name, value] of Object.entries(await api.redis.hgetall(tenant.keys.apiKeys))) {
    await api.redis.hset(tenant.keys.apiKeys, name.replace(made.id, key.keyId), value);
  }
  await api.redis.hset(tenant.keys.apiKeys, `${key.keyId}.hash`, hashed?.hash ?? "");
  expectProblem(await api.send("GET", "/data/none", { as: key.text }), 401, "invalid_token");
});

test("no scope that was written into a key's record opens a route for people", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  await api.redis.hset(tenant.keys.apiKeys, `${key.id}.scopes`, "keys:read keys:write");
  expectProblem(await api.send("GET", "/api-keys", { as: key.text }), 403, "insufficient_scope");
});

test("X-API-Key takes API keys only", async () => {
  const tenant = await api.tenant();
  const headers = { "x-api-key": tenant.admin.token };
  expectProblem(await api.send("GET", "/users/me", { headers }), 401, "invalid_token");
});

test("a credential longer than 4096 characters is refused, valid or not", async () => {
  const tenant = await api.tenant();
  const token = (filler: number) => longToken(tenant, filler);
  expect((await api.send("GET", "/users/me", { as: await token(100) })).status).toBe(200);
  expectProblem(await api.send("GET", "/users/me", { as: await token(4096) }), 401, "invalid_token");
});

const longToken = async (tenant: TestTenant, filler: number): Promise<string> =>
  sign(tenant, await importJWK(api.config.LATCHKEY_JWT_PRIVATE_KEY as never), { filler: "x".repeat(filler) });

test("another Authorization scheme is refused, also beside a good X-API-Key", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  const headers = { authorization: "Basic dTpw", "x-api-key": key.text };
  expectProblem(await api.send("GET", "/data/none", { headers }), 401, "invalid_token");
});

test("after a minute a dead credential leaves entries again", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant, { enabled: false });
  const use = () => api.send("GET", "/data/a", { as: key.text });
  await use();
  await api.redis.hset(tenant.keys.apiKeys, `${key.id}.denied_count`, 20);
  const before = (await api.trail(tenant)).length;
  await use();
  expect(await api.trail(tenant)).toHaveLength(before);
  await api.redis.hset(tenant.keys.apiKeys, `${key.id}.denied_since`, Date.now() - 61_000);
  await use();
  expect(await api.trail(tenant)).toHaveLength(before + 1);
});

test("a full outbox: who is not allowed is still told so, and nothing is written", async () => {
  const small = await createHarness({ AUDIT_OUTBOX_MAX_ENTRIES: "1" });
  const tenant = await small.tenant();
  await small.send("GET", "/users/me", { as: tenant.user.token });
  expectProblem(await small.send("GET", "/audit", { as: tenant.user.token }), 403, "insufficient_scope");
  expect(await small.trail(tenant)).toHaveLength(1);
  await small.close();
});
