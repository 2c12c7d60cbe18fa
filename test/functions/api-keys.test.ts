/** api-keys-create, api-keys-list and api-keys-delete: what they promise together. */
import { afterAll, expect, test, vi } from "vitest";
import { parseApiKey } from "../../shared/api-key.ts";
import { createKeyHasher } from "../../shared/node/key-hash.ts";
import { createHarness, secretPartOf, type TestTenant } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";
import { onlyInThisProcess } from "../support/skip.ts";

const api = await createHarness();
afterAll(() => api.close());

const create = (tenant: TestTenant, json: object) =>
  api.send("POST", "/api-keys", { as: tenant.admin.token, json });
const list = (tenant: TestTenant, query = "") =>
  api.send("GET", `/api-keys${query}`, { as: tenant.admin.token });
const use = (key: string) => api.send("GET", "/data/none", { as: key });

test("a key's text is shown once; what is stored and listed does not hold it", async () => {
  const tenant = await api.tenant();
  const { status, body } = await create(tenant, { name: "ci" });
  expect(status).toBe(201);
  const { key_value, ...view } = body;
  expect(parseApiKey(key_value)?.keyId).toBe(view.key_id);
  expect(view).toMatchObject({
    name: "ci",
    prefix: expect.stringMatching(/^lk_(test|live)_$/),
    scopes: ["data:read", "data:write"],
    enabled: true,
    created_by: tenant.admin.username,
    last_used: null,
    expires_at: null,
  });
  expect((await list(tenant)).body.data).toEqual([view]);
  const stored = JSON.stringify(await api.redis.hgetall(tenant.keys.apiKeys));
  expect(stored).not.toContain(key_value);
  expect(stored).not.toContain(secretPartOf(key_value));
});

test("every use is stamped", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  await use(key.text);
  const [listed] = (await list(tenant)).body.data;
  const [entry] = (await api.trail(tenant)).filter(({ action }) => action === "get_key");
  expect(listed.last_used).toBe(entry?.timestamp);
});

test("a deleted key is refused with the answer of its deletion, is not listed, and cannot be deleted twice", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  expect((await use(key.text)).status).toBe(404);
  const remove = () => api.send("DELETE", `/api-keys/${key.id}`, { as: tenant.admin.token });
  expect((await remove()).status).toBe(204);
  expect((await use(key.text)).status).toBe(401);
  expectProblem(await remove(), 404, "not_found");
  expect((await list(tenant)).body).toEqual({ data: [], next_cursor: null });
});

test("a key that expires is refused from then on", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant, { expires_at: new Date(Date.now() + 3_600_000).toISOString() });
  expect((await use(key.text)).status).toBe(404);
  // As if it had been waited for.
  await api.redis.hset(tenant.keys.apiKeys, `${key.id}.expires_at`, Date.now());
  expect((await use(key.text)).status).toBe(401);
});

test("a key can be made disabled", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant, { enabled: false });
  expect((await use(key.text)).status).toBe(401);
  expect((await list(tenant)).body.data[0].enabled).toBe(false);
});

test.each([
  ["no name", {}, "#/name"],
  ["an empty name", { name: "" }, "#/name"],
  ["a long name", { name: "x".repeat(129) }, "#/name"],
  ["a name that cannot be printed", { name: "a\u0007" }, "#/name"],
  ["an unknown scope", { name: "a", scopes: ["data:read", "keys:write"] }, "#/scopes/1"],
  ["no scope", { name: "a", scopes: [] }, "#/scopes"],
  ["a scope twice", { name: "a", scopes: ["data:read", "data:read"] }, "#/scopes"],
  ["an end in the past", { name: "a", expires_at: "2020-01-01T00:00:00Z" }, "#/expires_at"],
  ["an end that is no time", { name: "a", expires_at: "tomorrow" }, "#/expires_at"],
])("%s: 422 that points at it, and no key", async (_, json, pointer) => {
  const tenant = await api.tenant();
  const answer = await create(tenant, json);
  expectProblem(answer, 422, "validation_failed");
  expect(answer.body.errors[0].pointer).toBe(pointer);
  expect(await api.redis.exists(tenant.keys.apiKeys)).toBe(0);
});

test("pages hold every key once, newest first, also while keys are made and deleted", async () => {
  const tenant = await api.tenant();
  const ids: string[] = [];
  for (let i = 0; i < 7; i += 1) ids.unshift((await api.apiKey(tenant)).id);
  const first = await list(tenant, "?limit=3");
  expect(first.headers.get("link")).toBe(`</api-keys?limit=3&cursor=${first.body.next_cursor}>; rel="next"`);
  await api.apiKey(tenant);
  await api.send("DELETE", `/api-keys/${ids[2]}`, { as: tenant.admin.token });
  const second = await list(tenant, `?limit=3&cursor=${first.body.next_cursor}`);
  const third = await list(tenant, `?limit=3&cursor=${second.body.next_cursor}`);
  const seen = [first, second, third].flatMap(({ body }) =>
    body.data.map((key: { key_id: string }) => key.key_id),
  );
  expect(seen).toEqual(ids);
  expect([third.body.next_cursor, third.headers.get("link")]).toEqual([null, null]);
});

test.each([
  "limit=0",
  "limit=101",
  "limit=-1",
  "limit=1e2",
  "limit=",
  "cursor=0",
  "cursor=x",
  "limit=1&limit=2",
])("a page that cannot be: refused (%s)", async (query) => {
  const answer = await list(await api.tenant(), `?${query}`);
  expect([400, 422]).toContain(answer.status);
});

test("an id that no key can have: 422", async () => {
  const tenant = await api.tenant();
  const answer = await api.send("DELETE", "/api-keys/..%2Fx", { as: tenant.admin.token });
  expectProblem(answer, 422, "validation_failed");
  expect(answer.body.errors[0].parameter).toBe("key_id");
});

test("after a new pepper old keys still work, and from their next use on without the old one", async () => {
  const [oldPepper, newPepper] = [api.secrets["LATCHKEY_API_KEY_PEPPERS"] ?? "", `next:${"A".repeat(43)}`];
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  const use = async (peppers: string) => {
    const other = await createHarness({ LATCHKEY_API_KEY_PEPPERS: peppers });
    const { status } = await other.send("GET", "/data/none", { as: key.text });
    await other.close();
    return status;
  };
  expect(await use(newPepper)).toBe(401);
  expect(await use(`${newPepper},${oldPepper}`)).toBe(404);
  expect(await use(newPepper)).toBe(404);
  expect(await use(oldPepper)).toBe(401);
  const [expected] = createKeyHasher([["next", "A".repeat(43)]])(key.text);
  expect(await api.redis.hget(tenant.keys.apiKeys, `${key.id}.hash`)).toBe(expected?.hash);
});

test.each(["tomorrow", "2020-13-01T00:00:00Z", "9".repeat(41)])(
  "of an end that is no time that is all that is said (%s)",
  async (expires_at) => {
    const answer = await create(await api.tenant(), { name: "a", expires_at });
    expect(answer.body.errors).toEqual([{ pointer: "#/expires_at", detail: expect.any(String) }]);
  },
);

test.each(["9999-12-31T23:59:59-23:59", "+010000-01-01T00:00:00Z"])(
  "an end beyond the year 9999: 422 (%s)",
  async (expires_at) => {
    const tenant = await api.tenant();
    expectProblem(await create(tenant, { name: "a", expires_at }), 422, "validation_failed");
    expect((await list(tenant)).body.data).toEqual([]);
    await api.apiKey(tenant, { expires_at: "9999-12-31T23:59:59.999Z" });
    expect((await list(tenant)).body.data[0].expires_at).toBe("9999-12-31T23:59:59.999Z");
  },
);

test("what is stored of a key is HMAC-SHA-256 of its text under the pepper", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  const pepper = Buffer.from(api.config.LATCHKEY_API_KEY_PEPPERS[0]?.[1] ?? "", "base64url");
  const hmac = await crypto.subtle.importKey("raw", pepper, { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
  ]);
  const expected = Buffer.from(await crypto.subtle.sign("HMAC", hmac, Buffer.from(key.text)));
  expect(await api.redis.hget(tenant.keys.apiKeys, `${key.id}.hash`)).toBe(expected.toString("base64url"));
});

test("a key id that is taken is not given again", async () => {
  onlyInThisProcess("changes what is random");
  const tenant = await api.tenant();
  const random = vi.spyOn(crypto, "getRandomValues").mockImplementation((array) => {
    (array as unknown as Uint8Array).fill(7);
    return array;
  });
  const create = (name: string) => api.send("POST", "/api-keys", { as: tenant.admin.token, json: { name } });
  const statuses = [(await create("first")).status, (await create("second")).status];
  random.mockRestore();
  expect(statuses).toEqual([201, 500]);
  const { body } = await api.send("GET", "/api-keys", { as: tenant.admin.token });
  expect(body.data.map(({ name }: { name: string }) => name)).toEqual(["first"]);
});
