import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";

const api = await createHarness();
afterAll(() => api.close());

async function withItem() {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  const json = { key: "a", value: 1, ttl: 60, metadata: { old: true } };
  const created = await api.send("POST", "/data", { as, json });
  const put = (body: object, ifMatch?: string) =>
    api.send("PUT", "/data/a", { as, json: body, ...(ifMatch ? { headers: { "if-match": ifMatch } } : {}) });
  return { tenant, as, created, put };
}

test("value, metadata and expiry are replaced; the time of creation stays", async () => {
  const { tenant, created, put } = await withItem();
  const updated = await put({ value: 2 });
  expect(updated.status).toBe(200);
  expect(updated.body).toMatchObject({ value: 2, metadata: {}, ttl: null, expires_at: null, version: 2 });
  expect(updated.body.created_at).toBe(created.body.created_at);
  expect(updated.headers.get("etag")).not.toBe(created.headers.get("etag"));
  expect(await api.redis.pttl(tenant.keys.item("a"))).toBe(-1);
  expect((await put({ value: 3, ttl: 100 })).body).toMatchObject({ version: 3, ttl: 100 });
  expect(await api.redis.pttl(tenant.keys.item("a"))).toBeGreaterThan(60_000);
});

test("If-Match: only the revision that the caller has seen is replaced", async () => {
  const { created, put } = await withItem();
  const seen = created.headers.get("etag") ?? "";
  expectProblem(await put({ value: 2 }, '"other"'), 412, "precondition_failed");
  expectProblem(await put({ value: 2 }, `W/${seen}`), 412, "precondition_failed");
  for (const lookalike of [
    `"x,${seen.slice(1, -1)},y"`,
    `",${seen.slice(1, -1)},"`,
    `"W/${seen.slice(1, -1)}"`,
  ]) {
    expectProblem(await put({ value: 2 }, lookalike), 412, "precondition_failed");
  }
  expect((await put({ value: 2 }, `"other", ${seen}`)).status).toBe(200);
  expectProblem(await put({ value: 3 }, seen), 412, "precondition_failed");
  expect((await put({ value: 3 }, "*")).body.version).toBe(3);
});

test("an item that is made anew has another tag than the one before it", async () => {
  const { as, created, put } = await withItem();
  await api.send("DELETE", "/data/a", { as });
  const again = await api.send("POST", "/data", { as, json: { key: "a", value: 1 } });
  expect(again.body.version).toBe(1);
  expectProblem(await put({ value: 2 }, created.headers.get("etag") ?? ""), 412, "precondition_failed");
});

test("If-None-Match: a revision that the caller does not want to replace is not replaced", async () => {
  const { as, created } = await withItem();
  const put = (value: number, tags: string) =>
    api.send("PUT", "/data/a", { as, json: { value }, headers: { "if-none-match": tags } });
  const seen = created.headers.get("etag") ?? "";
  for (const tags of ["*", seen, `W/${seen}`]) expectProblem(await put(2, tags), 412, "precondition_failed");
  expect((await put(2, '"other"')).status).toBe(200);
});

test("a missing item: 404, whatever the precondition", async () => {
  const { as } = await withItem();
  for (const ifMatch of ['"1"', "*"]) {
    const send = { as, json: { value: 1 }, headers: { "if-match": ifMatch } };
    expectProblem(await api.send("PUT", "/data/none", send), 404, "not_found");
  }
});
