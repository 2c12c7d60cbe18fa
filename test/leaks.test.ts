/** Secrets, searched for in everything that leaves: answers, logs, the audit trail, the metrics, and Redis itself. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness, PASSWORD, secretPartOf, type TestTenant } from "./support/harness.ts";
import { ownRedis } from "./support/own-redis.ts";
import { bodyOf, samples } from "./support/samples.ts";

const VALUE = "the-value-of-an-item-is-nobody-elses-business";
const METADATA = "neither-is-its-metadata";
const store = await ownRedis();
const api = await createHarness({ REDIS_URL: store.url });
afterAll(async () => {
  await api.close();
  await store.stop();
});

let tenant: TestTenant;
let key: { id: string; text: string };
let token: string;

beforeAll(async () => {
  tenant = await api.tenant();
  key = await api.apiKey(tenant);
  const login = { username: tenant.admin.username, password: PASSWORD };
  token = (await api.send("POST", "/token", { json: login })).body.access_token;
  const item = { key: "a", value: VALUE, metadata: { note: METADATA } };
  await api.send("POST", "/data", { as: key.text, json: item });
  await api.send("POST", "/data", { as: key.text, json: item });
  for (const route of routes as readonly Route[]) {
    const sample = await samples[route.id as RouteId](api, tenant);
    const send = (change: object) =>
      api.send(route.method, sample.path, { as: token, ...bodyOf(sample), ...change });
    await send({});
    await send({ as: key.text });
    await send({ as: `${key.text.slice(0, -1)}!` });
    await send({ headers: { "x-api-key": key.text, "content-type": "text/plain" } });
    // Secrets where they do not belong: as unknown fields, as wrong values, in the query, as a request id.
    const query = new URLSearchParams({ token, key: key.text, password: PASSWORD });
    await api.send(route.method, `${sample.path}?${query}`, { as: token, ...bodyOf(sample) });
    await send({ headers: { "x-request-id": `${PASSWORD} ${key.text}` } });
    if (sample.json) {
      await send({ json: { ...sample.json, value: VALUE, unknown: key.text } });
      await send({
        json: { name: { secret: PASSWORD }, key: [PASSWORD], ttl: VALUE, username: 1, password: [PASSWORD] },
      });
      await send({
        raw: `{"value": "${VALUE}" "${PASSWORD}"`,
        headers: { "content-type": "application/json" },
      });
    }
  }
  // Redis answers an error whose message and properties hold the command.
  await api.redis.set(tenant.keys.item("broken"), VALUE);
  await api.send("PUT", "/data/broken", {
    as: key.text,
    json: { value: VALUE, metadata: { note: METADATA } },
  });
});

/** Every secret there is, by what it is. */
async function secrets(): Promise<Record<string, string>> {
  const hashes = await api.redis.hgetall(tenant.keys.apiKeys);
  const users = await api.redis.hgetall(tenant.keys.users);
  const privateKey = JSON.parse(api.secrets["LATCHKEY_JWT_PRIVATE_KEY"] ?? "{}");
  return {
    password: PASSWORD,
    "API key": key.text,
    "secret part of the API key": secretPartOf(key.text),
    token,
    "signature of the token": token.slice(token.lastIndexOf(".") + 1),
    "signing key": privateKey.d,
    pepper: api.config.LATCHKEY_API_KEY_PEPPERS[0]?.[1] ?? "",
    "hash of the API key": hashes[`${key.id}.hash`] ?? "",
    "hash of the password": users[`${tenant.admin.id}.password`] ?? "",
  };
}

async function expectAbsent(text: string, found: Record<string, string>): Promise<void> {
  expect(text.length).toBeGreaterThan(1000);
  for (const [name, secret] of Object.entries(found)) {
    expect(secret.length, name).toBeGreaterThan(16);
    expect(text.includes(secret), `${name} is in there`).toBe(false);
  }
}

test("the log holds no secret, no value and no query, though it has a line for every request and error", async () => {
  const log = api.logLines.join("");
  expect(log).toContain("WRONGTYPE");
  for (const route of routes) expect(log).toContain(`"function":"${route.id}"`);
  await expectAbsent(log, {
    ...(await secrets()),
    value: VALUE,
    metadata: METADATA,
    query: "password=correct+horse",
  });
});

test("the audit trail holds no secret and no value", async () => {
  const trail = JSON.stringify(await api.trail(tenant));
  await expectAbsent(trail, { ...(await secrets()), value: VALUE, metadata: METADATA });
});

test("answers hold no secret but the token and the key text that their caller came for", async () => {
  const all = await secrets();
  const { token: _t, "signature of the token": _s, ...notForLogin } = all;
  const { "API key": _k, "secret part of the API key": _p, ...notForCreation } = all;
  const login = api.answers.filter((answer) => answer.function === "POST /token");
  const creation = api.answers.filter((answer) => answer.function === "POST /api-keys");
  const others = api.answers.filter((answer) => !login.includes(answer) && !creation.includes(answer));
  const text = (answers: typeof others) => answers.map((answer) => answer.text).join("\n");
  await expectAbsent(text(login), notForLogin);
  await expectAbsent(text(creation), notForCreation);
  await expectAbsent(text(others), all);
});

test("the metrics hold no secret", async () => {
  const { text } = await api.send("GET", "/metrics");
  await expectAbsent(text, await secrets());
});

test("Redis holds no password, no key text, no token, no pepper and no signing key", async () => {
  const { "hash of the API key": _h, "hash of the password": _p, ...all } = await secrets();
  const dump: unknown[] = [];
  for (const name of await api.redis.keys("*")) {
    const type = await api.redis.type(name);
    dump.push(name);
    if (type === "hash") dump.push(await api.redis.hgetall(name));
    if (type === "stream") dump.push(await api.redis.xrange(name, "-", "+"));
    if (type === "string") dump.push(await api.redis.get(name));
  }
  // The values of items are stored, of course; here they hold secrets on purpose only as unknown fields, which are not.
  await expectAbsent(JSON.stringify(dump), all);
});
