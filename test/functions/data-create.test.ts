import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";

const api = await createHarness();
const small = await createHarness({ LATCHKEY_VALUE_MAX_BYTES: "1024" });
afterAll(() => Promise.all([api.close(), small.close()]));

test("a new item: 201 with its place and tag, and an entry without its value", async () => {
  const tenant = await api.tenant();
  const json = { key: "a/b", value: { token: "sensitive" }, metadata: { note: "sensitive" }, ttl: 60 };
  const answer = await api.send("POST", "/data", { as: tenant.user.token, json });
  expect(answer.status).toBe(201);
  expect(answer.headers.get("location")).toBe("/data/a%2Fb");
  const [entry] = await api.trail(tenant);
  expect(entry).toMatchObject({
    seq: 1,
    action: "create_key",
    outcome: "success",
    username: tenant.user.username,
    actor: { type: "user", id: tenant.user.id },
    target: { type: "item", id: "a/b" },
    details: { ttl: 60, version: 1 },
  });
  expect(JSON.stringify(entry)).not.toContain("sensitive");
});

test("an item that exists: 409, and it stays as it was", async () => {
  const tenant = await api.tenant();
  const create = (value: number) =>
    api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value } });
  await create(1);
  expectProblem(await create(2), 409, "already_exists");
  expect((await api.send("GET", "/data/a", { as: tenant.admin.token })).body.value).toBe(1);
});

test("the key may stand in the query; in both places it must be the same", async () => {
  const { admin } = await api.tenant();
  const create = (path: string, json: object) => api.send("POST", path, { as: admin.token, json });
  expect((await create("/data?key=q%2F1", { value: 1 })).body.key).toBe("q/1");
  expect((await create("/data?key=q2", { key: "q2", value: 1 })).status).toBe(201);
  expectProblem(await create("/data?key=q3", { key: "other", value: 1 }), 422, "validation_failed");
  const none = await create("/data", { value: 1 });
  expectProblem(none, 422, "validation_failed");
  expect(none.body.errors).toEqual([{ pointer: "#/key", detail: "Required, here or as ?key=" }]);
});

test("a value may have just the size that is allowed, in bytes of JSON", async () => {
  const { admin } = await small.tenant();
  const create = (key: string, value: string) =>
    small.send("POST", "/data", { as: admin.token, json: { key, value } });
  expect((await create("fits", "x".repeat(1022))).status).toBe(201);
  expectProblem(await create("longer", "x".repeat(1023)), 413, "payload_too_large");
  expectProblem(await create("wider", "é".repeat(512)), 413, "payload_too_large");
});

test.each([
  ["no value", { key: "a" }, "#/value"],
  ["a ttl of 0", { key: "a", value: 1, ttl: 0 }, "#/ttl"],
  ["a ttl that is no whole number", { key: "a", value: 1, ttl: 1.5 }, "#/ttl"],
  ["a ttl beyond ten years", { key: "a", value: 1, ttl: 315_360_001 }, "#/ttl"],
  ["a ttl of null", { key: "a", value: 1, ttl: null }, "#/ttl"],
  ["metadata that is a list", { key: "a", value: 1, metadata: [] }, "#/metadata"],
  ["metadata that is large", { key: "a", value: 1, metadata: { a: "x".repeat(16_384) } }, "#/metadata"],
  ["an empty key", { key: "", value: 1 }, "#/key"],
  ["a key of 513 bytes", { key: `${"é".repeat(256)}x`, value: 1 }, "#/key"],
  ["a key with a line break", { key: "a\nb", value: 1 }, "#/key"],
  ["a key with half a character", { key: "\ud800", value: 1 }, "#/key"],
  ["a key that URLs swallow", { key: "..", value: 1 }, "#/key"],
  ["a key that proxies swallow", { key: "a/../b", value: 1 }, "#/key"],
  ["a key that ends in what proxies swallow", { key: "a/.", value: 1 }, "#/key"],
])("%s: 422 that points at it", async (_, json, pointer) => {
  const { admin } = await api.tenant();
  const answer = await api.send("POST", "/data", { as: admin.token, json });
  expectProblem(answer, 422, "validation_failed");
  expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toEqual([pointer]);
});

test.each([
  "9007199254740993",
  "-9007199254740993.0",
  "1e999",
  "[1e-999]",
  `${"[".repeat(65)}${"]".repeat(65)}`,
])("JSON that would not come back as it is: 400 (%s)", async (value) => {
  const { admin } = await api.tenant();
  const headers = { "content-type": "application/json" };
  const answer = await api.send("POST", "/data?key=a", {
    as: admin.token,
    raw: `{"value":${value}}`,
    headers,
  });
  expectProblem(answer, 400, "malformed_request");
});
