import { decodeJwt, decodeProtectedHeader } from "jose";
import { afterAll, expect, test } from "vitest";
import { createPasswordHasher } from "../../shared/node/passwords.ts";
import { createLoginStore } from "../../shared/redis/logins.ts";
import { createUser } from "../../shared/redis/tenants.ts";
import { routeOf } from "../../shared/routes.ts";
import { createHarness, PASSWORD, type TestTenant } from "../support/harness.ts";
import { comparable, expectProblem } from "../support/samples.ts";
import { onlyInThisProcess } from "../support/skip.ts";

const api = await createHarness();
/** The same with low limits: of a user's failures, and of an address's. */
const perUser = await createHarness({ LATCHKEY_LOGIN_MAX_FAILURES: "3" });
const perAddress = await createHarness({ LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS: "5" });
afterAll(() => Promise.all([api, perUser, perAddress].map((one) => one.close())));

const loginAt = (at: typeof api) => (username: string, password: string, from?: string) =>
  at.send("POST", "/token", { json: { username, password }, ...(from === undefined ? {} : { from }) });
const login = loginAt(api);
const group = () => crypto.randomUUID().slice(0, 4);
/** An address of a network that nobody else has. */
const address = (host = "::1") => `2001:db8:${group()}:${group()}${host}`;
const events = async (tenant: TestTenant) =>
  (await api.trail(tenant)).map(({ action, outcome, details }) => [action, outcome, details.reason]);

test("a form or JSON, with or without the grant type: a token that works", async () => {
  const tenant = await api.tenant();
  const form = (body: Record<string, string>) =>
    api.send("POST", "/token", {
      raw: new URLSearchParams(body).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  const { username, password } = tenant.admin;
  const answers = [
    await login(username, password),
    await form({ username, password }),
    await form({ username, password, grant_type: "password" }),
  ];
  for (const { status, headers, body } of answers) {
    expect([status, headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(body).toEqual({ access_token: expect.any(String), token_type: "bearer", expires_in: 1800 });
    expect((await api.send("GET", "/users/me", { as: body.access_token })).body.username).toBe(username);
  }
  const token = answers[0]?.body.access_token;
  expect(decodeProtectedHeader(token)).toEqual({
    alg: expect.stringMatching(/^(EdDSA|ES256)$/),
    kid: expect.any(String),
    typ: "at+jwt",
  });
  const claims = decodeJwt(token);
  expect(Object.keys(claims).sort()).toEqual(
    ["aud", "epoch", "exp", "iat", "iss", "jti", "role", "sub", "tenant_id"].sort(),
  );
  expect([claims["tenant_id"], claims.sub, claims["role"]]).toEqual([tenant.id, tenant.admin.id, "admin"]);
  expect(Number(claims.exp) - Number(claims.iat)).toBe(1800);
});

test("an unknown user and a wrong password are told the same; only the known tenant hears of it", async () => {
  const tenant = await api.tenant();
  const wrong = await login(tenant.user.username, "wrong");
  const unknown = await login(`nobody@${tenant.id}`, "wrong");
  expectProblem(wrong, 401, "invalid_grant");
  expect(comparable(unknown)).toEqual(comparable(wrong));
  expect(unknown.headers.get("www-authenticate")).toBe('Bearer realm="latchkey"');
  expect(await events(tenant)).toEqual([["login_failed", "denied", "wrong_password"]]);
});

test.each([
  [
    "a disabled user",
    "user_disabled",
    (t: TestTenant) => api.redis.hset(t.keys.users, `${t.user.id}.disabled`, "1"),
  ],
  [
    "a suspended tenant",
    "tenant_suspended",
    (t: TestTenant) => api.redis.hset(t.keys.tenant, "status", "suspended"),
  ],
])("%s with the right password is told what a wrong password is told", async (_, reason, spoil) => {
  const tenant = await api.tenant();
  const wrong = await login(tenant.user.username, "wrong");
  await spoil(tenant);
  expect(comparable(await login(tenant.user.username, tenant.user.password))).toEqual(comparable(wrong));
  expect((await events(tenant)).at(-1)).toEqual(["login_failed", "denied", reason]);
});

test.each(["a user", "nobody"])(
  "%s who failed too often waits, even with the right password",
  async (who) => {
    const tenant = await api.tenant();
    const username = who === "a user" ? tenant.user.username : crypto.randomUUID();
    for (let i = 0; i < 3; i += 1)
      expectProblem(await loginAt(perUser)(username, "wrong"), 401, "invalid_grant");
    const blocked = await loginAt(perUser)(username, PASSWORD);
    expectProblem(blocked, 429, "too_many_attempts");
    const wait = Number(blocked.headers.get("retry-after"));
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(900);
  },
);

test("guesses in parallel learn no more than guesses one after the other", async () => {
  const tenant = await api.tenant();
  const guesses = Array.from({ length: 9 }, (_, i) => loginAt(perUser)(tenant.user.username, `guess ${i}`));
  const statuses = (await Promise.all(guesses)).map(({ status }) => status).sort();
  expect(statuses).toEqual([401, 401, 401, 429, 429, 429, 429, 429, 429]);
  expectProblem(await loginAt(perUser)(tenant.user.username, tenant.user.password), 429, "too_many_attempts");
  expect(await events(tenant)).toEqual(Array(9).fill(["login_failed", "denied", "wrong_password"]));
});

test("a success clears the user's failures; logging in often is no failure", async () => {
  const { user } = await api.tenant();
  for (let round = 0; round < 3; round += 1) {
    expect((await loginAt(perUser)(user.username, "wrong")).status).toBe(401);
    expect((await loginAt(perUser)(user.username, "wrong")).status).toBe(401);
    expect((await loginAt(perUser)(user.username, user.password)).status).toBe(200);
  }
  const many = await Promise.all(
    Array.from({ length: 8 }, () => loginAt(perUser)(user.username, user.password)),
  );
  expect(many.map(({ status }) => status)).toEqual(Array(8).fill(200));
});

test("an address that failed too often waits, whatever user it tries; others do not", async () => {
  const [tenant, bad, good] = [await api.tenant(), address(), address()];
  for (let i = 0; i < 5; i += 1) await loginAt(perAddress)(crypto.randomUUID(), "wrong", bad);
  expectProblem(
    await loginAt(perAddress)(tenant.user.username, tenant.user.password, bad),
    429,
    "too_many_attempts",
  );
  expect((await loginAt(perAddress)(tenant.user.username, tenant.user.password, good)).status).toBe(200);
});

test("the addresses of one IPv6 network, and other spellings of one address, are counted together", async () => {
  onlyInThisProcess("is the proxy");
  const proxied = await createHarness({
    LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS: "3",
    LATCHKEY_TRUSTED_PROXIES: "1",
  });
  const attempt = async (from: string) => {
    const json = { username: crypto.randomUUID(), password: "wrong" };
    return (
      await proxied.send("POST", "/token", { json, headers: { "x-forwarded-for": `198.51.100.1, ${from}` } })
    ).status;
  };
  const network = address("");
  for (const host of ["::1", ":0:0:0:2", "::ffff:3"]) expect(await attempt(network + host)).toBe(401);
  expect(await attempt(`${network.toUpperCase()}::4`)).toBe(429);
  expect(await attempt(`[${network}::5]:1234`)).toBe(429);
  const v4 = `203.0.113.${Math.floor(Math.random() * 256)}`;
  for (const port of ["", ":1", ":2"]) expect(await attempt(v4 + port)).toBe(401);
  expect(await attempt(`::ffff:${v4}`)).toBe(429);
  await proxied.close();
});

test("the limits end with their window", async () => {
  const short = await createHarness({ LATCHKEY_LOGIN_MAX_FAILURES: "1", LATCHKEY_LOGIN_WINDOW_SECONDS: "1" });
  const { user } = await short.tenant();
  const attempt = (password: string) =>
    short.send("POST", "/token", { json: { username: user.username, password } });
  expect((await attempt("wrong")).status).toBe(401);
  await expect.poll(async () => (await attempt(PASSWORD)).status).toBe(200);
  await short.close();
});

test("a hash with old parameters is replaced at the next login, also by two at once", async () => {
  const tenant = await api.tenant();
  const field = `${tenant.user.id}.password`;
  const weak = await createPasswordHasher(1, { memoryCost: 1024, timeCost: 1, parallelism: 1 }).hash(
    PASSWORD,
    "tests",
  );
  await api.redis.hset(tenant.keys.users, field, weak);
  const both = await Promise.all([
    login(tenant.user.username, tenant.user.password),
    login(tenant.user.username, tenant.user.password),
  ]);
  expect(both.map(({ status }) => status)).toEqual([200, 200]);
  expect(await api.redis.hget(tenant.keys.users, field)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  expect((await login(tenant.user.username, tenant.user.password)).status).toBe(200);
});

test("a token of before a revocation is refused, one of after it works", async () => {
  const tenant = await api.tenant();
  await api.redis.hset(tenant.keys.users, `${tenant.user.id}.epoch`, "1");
  expect((await api.send("GET", "/users/me", { as: tenant.user.token })).status).toBe(401);
  const { body } = await login(tenant.user.username, tenant.user.password);
  expect((await api.send("GET", "/users/me", { as: body.access_token })).status).toBe(200);
});

test("a form may have parameters that nobody knows, and empty ones (RFC 6749, 3.2)", async () => {
  const tenant = await api.tenant();
  const { username, password } = tenant.admin;
  const raw = new URLSearchParams({ username, password }).toString();
  const form = (more: string) =>
    api.send("POST", "/token", {
      raw: raw + more,
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  expect((await form("&grant_type=&scope=&client_id=web&client_secret=")).status).toBe(200);
  expectProblem(await form("&password=other"), 400, "malformed_request");
});

test("many logins of one user hold up another user by one login each, not by all", async () => {
  onlyInThisProcess("counts on who arrives first");
  const [many, one] = [await api.tenant(), await api.tenant()];
  let finished = 0;
  const crowd = Array.from({ length: 60 }, () =>
    login(many.user.username, many.user.password).finally(() => {
      finished += 1;
    }),
  );
  expect((await login(one.user.username, one.user.password)).status).toBe(200);
  expect(finished).toBeLessThan(30);
  expect(new Set((await Promise.all(crowd)).map(({ status }) => status))).toEqual(new Set([200]));
});

test.each([
  ["no password", { username: "a" }],
  ["an empty username", { username: "", password: "x" }],
  ["a password that takes long to hash", { username: "a", password: "x".repeat(1025) }],
  ["another grant", { username: "a", password: "x", grant_type: "refresh_token" }],
])("%s: 422", async (_, json) => {
  expectProblem(await api.send("POST", "/token", { json }), 422, "validation_failed");
});

test("a login stands in the trail", async () => {
  const tenant = await api.tenant();
  await login(tenant.user.username, tenant.user.password);
  expect(await api.trail(tenant)).toMatchObject([
    {
      action: "login_success",
      outcome: "success",
      username: tenant.user.username,
      actor: { type: "user", id: tenant.user.id },
      target: { type: "user", id: tenant.user.id },
    },
  ]);
});

test("a success does not clear its address's failures", async () => {
  const tenant = await api.tenant();
  const from = address();
  for (let i = 0; i < 4; i += 1) await loginAt(perAddress)(crypto.randomUUID(), "wrong", from);
  expect((await loginAt(perAddress)(tenant.user.username, tenant.user.password, from)).status).toBe(200);
  await loginAt(perAddress)(crypto.randomUUID(), "wrong", from);
  expectProblem(
    await loginAt(perAddress)(tenant.user.username, tenant.user.password, from),
    429,
    "too_many_attempts",
  );
});

test("the right password among parallel guesses, once the limit is reached, is not let in", async () => {
  const { user } = await api.tenant();
  const guesses = [...Array.from({ length: 12 }, (_, i) => `guess ${i}`), PASSWORD];
  const answers = await Promise.all(guesses.map((guess) => loginAt(perUser)(user.username, guess)));
  expect(answers.at(-1)?.status).toBe(429);
});

test("a full outbox: who knows the password is told 503, others what they are always told", async () => {
  const small = await createHarness({ AUDIT_OUTBOX_MAX_ENTRIES: "1" });
  const tenant = await small.tenant();
  const attempt = (username: string, password: string) =>
    small.send("POST", "/token", { json: { username, password } });
  await small.send("GET", "/users/me", { as: tenant.user.token });
  const unknown = await attempt(crypto.randomUUID(), "wrong");
  expect(comparable(await attempt(tenant.user.username, "wrong"))).toEqual(comparable(unknown));
  expectProblem(await attempt(tenant.user.username, tenant.user.password), 503, "audit_unavailable");
  expect(await small.trail(tenant)).toHaveLength(1);
  await small.close();
});

test("a password that was changed while it was checked lets nobody in", async () => {
  const tenant = await api.tenant();
  const logins = createLoginStore({
    store: api.store,
    limits: { perUser: 3, perAddress: 5, window: 60 },
    trail: { limit: 1000, overflow: "refuse" },
    onFailure: () => undefined,
  });
  const attempt = await logins.begin(tenant.user.username, undefined);
  await api.redis.hset(tenant.keys.users, `${tenant.user.id}.epoch`, "1");
  const request = { route: routeOf("token-issue"), requestId: "r" };
  await expect(logins.succeed(request, attempt, undefined)).rejects.toMatchObject({ code: "invalid_grant" });
  expect((await api.trail(tenant)).map(({ details }) => details.reason)).toEqual(["wrong_password"]);
});

test("a username is taken once, and the second attempt leaves nothing", async () => {
  const [tenant, other] = [await api.tenant(), await api.tenant()];
  const before = await api.redis.hgetall(other.keys.users);
  const user = { username: tenant.user.username, passwordHash: "x", role: "admin" } as const;
  expect(await createUser(api.store, other.id, user)).toBeUndefined();
  expect(await api.redis.hgetall(other.keys.users)).toEqual(before);
  expect((await login(tenant.user.username, tenant.user.password)).status).toBe(200);
});
