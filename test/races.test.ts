/** Many at once, with exact counts: what only one can have, only one gets. */
import { afterAll, expect, test } from "vitest";
import { createTenant } from "../shared/redis/tenants.ts";
import { type Answer, createHarness, type TestTenant } from "./support/harness.ts";

const api = await createHarness();
afterAll(() => api.close());

const CROWD = 20;
const crowd = <T>(one: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: CROWD }, (_, index) => one(index)));

const count = (answers: readonly Answer[]): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

/** The trail's numbers are 1, 2, 3… and each request id stands in it once. */
async function expectWholeTrail(tenant: TestTenant, answers: readonly Answer[]): Promise<void> {
  const trail = await api.trail(tenant);
  expect(trail.map(({ seq }) => seq)).toEqual(trail.map((_, index) => index + 1));
  const ids = trail.map((entry) => entry.request_id);
  for (const { headers } of answers) {
    expect(ids.filter((id) => id === headers.get("x-request-id"))).toHaveLength(1);
  }
}

test("of 20 creators of one item exactly one succeeds, and its value is the one that stays", async () => {
  const tenant = await api.tenant();
  const answers = await crowd((value) =>
    api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value } }),
  );
  expect(count(answers)).toEqual({ 201: 1, 409: CROWD - 1 });
  const winner = answers.find(({ status }) => status === 201);
  expect((await api.send("GET", "/data/a", { as: tenant.admin.token })).body).toEqual(winner?.body);
  await expectWholeTrail(tenant, answers);
});

test("of 20 deleters of one item exactly one succeeds", async () => {
  const tenant = await api.tenant();
  await api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 1 } });
  const answers = await crowd(() => api.send("DELETE", "/data/a", { as: tenant.admin.token }));
  expect(count(answers)).toEqual({ 204: 1, 404: CROWD - 1 });
  await expectWholeTrail(tenant, answers);
});

test("of 20 updates of the revision that all have seen exactly one succeeds", async () => {
  const tenant = await api.tenant();
  const { headers } = await api.send("POST", "/data", {
    as: tenant.admin.token,
    json: { key: "a", value: 0 },
  });
  const seen = { "if-match": headers.get("etag") ?? "" };
  const answers = await crowd((value) =>
    api.send("PUT", "/data/a", { as: tenant.admin.token, json: { value }, headers: seen }),
  );
  expect(count(answers)).toEqual({ 200: 1, 412: CROWD - 1 });
  await expectWholeTrail(tenant, answers);
});

test("20 unconditional updates all succeed, each with a version of its own", async () => {
  const tenant = await api.tenant();
  await api.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 0 } });
  const answers = await crowd((value) =>
    api.send("PUT", "/data/a", { as: tenant.admin.token, json: { value } }),
  );
  const versions = answers.map(({ body }) => body.version).sort((a, b) => a - b);
  expect(versions).toEqual(Array.from({ length: CROWD }, (_, i) => i + 2));
  const last = answers.find(({ body }) => body.version === CROWD + 1);
  expect((await api.send("GET", "/data/a", { as: tenant.admin.token })).body).toEqual(last?.body);
});

test("updates against one delete: every update happens before it or finds nothing, and nothing comes back", async () => {
  const tenant = await api.tenant();
  const as = tenant.admin.token;
  await api.send("POST", "/data", { as, json: { key: "a", value: 0 } });
  const [answers, deleted] = await Promise.all([
    crowd((value) => api.send("PUT", "/data/a", { as, json: { value } })),
    api.send("DELETE", "/data/a", { as }),
  ]);
  expect(deleted.status).toBe(204);
  const entry = (await api.trail(tenant)).find(({ action }) => action === "delete_key");
  expect(count(answers)[200] ?? 0).toBe((entry?.details.version ?? 0) - 1);
  expect((await api.send("GET", "/data/a", { as })).status).toBe(404);
  await expectWholeTrail(tenant, [...answers, deleted]);
});

test("uses of a key against its deletion: none is let in once the deletion has its place in the trail", async () => {
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  const use = () => api.send("GET", "/data/none", { as: key.text });
  const [before, deleted, after] = await Promise.all([
    crowd(use),
    api.send("DELETE", `/api-keys/${key.id}`, { as: tenant.admin.token }),
    crowd(use),
  ]);
  expect(deleted.status).toBe(204);
  const trail = await api.trail(tenant);
  const deletion = trail.findIndex(({ action }) => action === "delete_api_key");
  const uses = trail.filter(({ action }) => action === "get_key");
  expect(uses).toHaveLength(2 * CROWD);
  for (const { seq, outcome } of uses) expect(outcome).toBe(seq <= deletion ? "failure" : "denied");
  expect((await crowd(use)).every(({ status }) => status === 401)).toBe(true);
  await expectWholeTrail(tenant, [...before, ...after, deleted]);
});

test("20 creators of API keys make 20 keys, and all of them work", async () => {
  const tenant = await api.tenant();
  const keys = await crowd(() => api.apiKey(tenant));
  const { body } = await api.send("GET", "/api-keys", { as: tenant.admin.token });
  expect(body.data.map(({ key_id }: { key_id: string }) => key_id).sort()).toEqual(
    keys.map(({ id }) => id).sort(),
  );
  const uses = await Promise.all(keys.map(({ text }) => api.send("GET", "/data/none", { as: text })));
  expect(count(uses)).toEqual({ 404: CROWD });
});

test("20 tenants at once: each trail is whole, and each sees its own item only", async () => {
  const tenants = await crowd(() => api.tenant());
  await Promise.all(
    tenants.map((tenant) =>
      api.send("POST", "/data", { as: tenant.user.token, json: { key: "same", value: tenant.id } }),
    ),
  );
  for (const tenant of tenants) {
    expect((await api.send("GET", "/data/same", { as: tenant.admin.token })).body.value).toBe(tenant.id);
    expect((await api.trail(tenant)).map(({ seq, tenant_id }) => [seq, tenant_id])).toEqual([
      [1, tenant.id],
      [2, tenant.id],
    ]);
  }
});

test("a tenant is created once", async () => {
  const tenant = await api.tenant();
  await api.send("GET", "/users/me", { as: tenant.user.token });
  const before = await api.redis.hgetall(tenant.keys.tenant);
  expect(await createTenant(api.store, tenant.id)).toBe(false);
  expect(await api.redis.hgetall(tenant.keys.tenant)).toEqual(before);
});
