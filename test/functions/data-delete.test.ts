import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";

const api = await createHarness();
afterAll(() => api.close());

test("204 once, 404 from then on, and the entry names the version that went", async () => {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  await api.send("POST", "/data", { as, json: { key: "a", value: 1 } });
  await api.send("PUT", "/data/a", { as, json: { value: 2 } });
  const deleted = await api.send("DELETE", "/data/a", { as });
  expect([deleted.status, deleted.text]).toEqual([204, ""]);
  expectProblem(await api.send("DELETE", "/data/a", { as }), 404, "not_found");
  expectProblem(await api.send("GET", "/data/a", { as }), 404, "not_found");
  expect((await api.trail(tenant)).slice(2, 4)).toMatchObject([
    { action: "delete_key", outcome: "success", target: { id: "a" }, details: { version: 2 } },
    { action: "delete_key", outcome: "failure", target: { id: "a" }, details: { reason: "not_found" } },
  ]);
});

test("If-Match: only the revision that the caller has seen is deleted", async () => {
  const { admin } = await api.tenant();
  const created = await api.send("POST", "/data", { as: admin.token, json: { key: "a", value: 1 } });
  const remove = (ifMatch: string) =>
    api.send("DELETE", "/data/a", { as: admin.token, headers: { "if-match": ifMatch } });
  expectProblem(await remove('"0"'), 412, "precondition_failed");
  expect((await remove(created.headers.get("etag") ?? "")).status).toBe(204);
});

test("If-None-Match: a revision that the caller does not want to delete is not deleted", async () => {
  const { admin } = await api.tenant();
  const created = await api.send("POST", "/data", { as: admin.token, json: { key: "a", value: 1 } });
  const remove = (tags: string) =>
    api.send("DELETE", "/data/a", { as: admin.token, headers: { "if-none-match": tags } });
  for (const tags of ["*", created.headers.get("etag") ?? ""]) {
    expectProblem(await remove(tags), 412, "precondition_failed");
  }
  expect((await remove('"other"')).status).toBe(204);
});
