import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";
import { isDeployed } from "../support/skip.ts";

const api = await createHarness();
afterAll(() => api.close());

test("an item comes back as it was stored, with its tag", async () => {
  const { admin } = await api.tenant();
  const value = { text: "hällo 🔑", list: [1, -0.5, null, true], deep: { a: { b: "c" } }, empty: {} };
  const json = { key: "a", value, metadata: { owner: "me" }, ttl: 60 };
  const created = await api.send("POST", "/data", { as: admin.token, json });
  const read = await api.send("GET", "/data/a", { as: admin.token });
  expect(read.status).toBe(200);
  expect(read.body).toEqual(created.body);
  expect(read.body).toMatchObject({ ...json, version: 1 });
  expect(read.headers.get("etag")).toBe(created.headers.get("etag"));
  expect(Date.parse(read.body.expires_at) - Date.parse(read.body.created_at)).toBe(60_000);
});

test("any JSON is a value, and is answered as it was sent", async () => {
  const { admin } = await api.tenant();
  const values = [
    '"text"',
    "0",
    "false",
    "null",
    "[]",
    "{}",
    '{"__proto__":{"a":1}}',
    '"\\ud800"',
    '"\\u0000"',
    "1e-7",
  ];
  for (const [index, value] of values.entries()) {
    const headers = { "content-type": "application/json" };
    await api.send("POST", `/data?key=${index}`, { as: admin.token, raw: `{"value":${value}}`, headers });
    const { text } = await api.send("GET", `/data/${index}`, { as: admin.token });
    expect(text).toContain(`"value":${value},`);
  }
});

test("304 for a revision that the caller has, and only for that", async () => {
  const { admin } = await api.tenant();
  const created = await api.send("POST", "/data", { as: admin.token, json: { key: "a", value: 1 } });
  const etag = created.headers.get("etag") ?? "";
  const read = (ifNoneMatch: string) =>
    api.send("GET", "/data/a", { as: admin.token, headers: { "if-none-match": ifNoneMatch } });
  for (const same of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
    const answer = await read(same);
    expect([same, answer.status, answer.text, answer.headers.get("etag")]).toEqual([same, 304, "", etag]);
  }
  for (const other of ['"other"', `"W/${etag.slice(1, -1)}"`, `"x,${etag.slice(1, -1)}"`]) {
    expect([other, (await read(other)).status]).toEqual([other, 200]);
  }
  expectProblem(await read("not a tag"), 422, "validation_failed");
  await api.send("PUT", "/data/a", { as: admin.token, json: { value: 2 } });
  expect((await read(etag)).status).toBe(200);
});

test.each([
  "a/b",
  "a%2Fb",
  "100%",
  "käse",
  "🔑",
  "a b",
  "a+b",
  "..a",
  "a/..b/.c",
  "?#&=",
  "\\",
  "/",
  "//",
  "a\u00a0b",
  "{x}",
])("the key %j is readable under its percent-encoded path", async (key) => {
  const { admin } = await api.tenant();
  const created = await api.send("POST", "/data", { as: admin.token, json: { key, value: key } });
  expect(created.status).toBe(201);
  const read = await api.send("GET", created.headers.get("location") ?? "", { as: admin.token });
  expect(read.body).toMatchObject({ key, value: key });
});

test("a path that is no UTF-8: 400", async () => {
  const { admin } = await api.tenant();
  for (const path of ["/data/%ff", "/data/%", "/data/%zz"]) {
    const answer = await api.send("GET", path, { as: admin.token });
    expect([path, answer.status]).toEqual([path, 400]);
    // Knative's proxies refuse by themselves what is not percent-encoded at all.
    if (!isDeployed() || path === "/data/%ff") expectProblem(answer, 400, "malformed_request");
  }
});

test("HEAD is GET without the body", async () => {
  const { admin } = await api.tenant();
  await api.send("POST", "/data", { as: admin.token, json: { key: "a", value: 1 } });
  const head = await api.send("HEAD", "/data/a", { as: admin.token });
  const get = await api.send("GET", "/data/a", { as: admin.token });
  expect([head.status, head.text, head.headers.get("etag")]).toEqual([200, "", get.headers.get("etag")]);
});

test("an item whose time is over is missing", async () => {
  const tenant = await api.tenant();
  await api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 1, ttl: 60 } });
  await api.redis.pexpire(tenant.keys.item("a"), 1);
  await expect.poll(() => api.redis.exists(tenant.keys.item("a"))).toBe(0);
  expectProblem(await api.send("GET", "/data/a", { as: tenant.admin.token }), 404, "not_found");
});
