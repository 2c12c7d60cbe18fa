import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";

const api = await createHarness();
afterAll(() => api.close());

test("an item comes back as it was stored, with its tag", async () => {
  const { admin } = await api.tenant();
  const value = { text: "hällo", list: [1, null, true], deep: { __proto__x: 1 } };
  const created = await api.send("POST", "/data", {
    as: admin.token,
    json: { key: "a", value, metadata: { owner: "me" } },
  });
  const read = await api.send("GET", "/data/a", { as: admin.token });
  expect(read.status).toBe(200);
  expect(read.body).toEqual(created.body);
  expect(read.body).toMatchObject({
    key: "a",
    value,
    metadata: { owner: "me" },
    ttl: null,
    expires_at: null,
    version: 1,
  });
  expect(read.headers.get("etag")).toBe(created.headers.get("etag"));
});
