import { afterAll, expect, test } from "vitest";
import { createHarness } from "../support/harness.ts";

const api = await createHarness();
afterAll(() => api.close());

test("a user sees their own record, and never the password's hash", async () => {
  const tenant = await api.tenant();
  await api.redis.hset(tenant.keys.users, `${tenant.user.id}.email`, "u@example.com");
  const answer = await api.send("GET", "/users/me", { as: tenant.user.token });
  expect(answer.body).toEqual({
    username: tenant.user.username,
    email: "u@example.com",
    full_name: null,
    disabled: false,
    tenant_id: tenant.id,
    role: "user",
  });
});

test("the role is the one of now, not the one in the token", async () => {
  const tenant = await api.tenant();
  await api.redis.hset(tenant.keys.users, `${tenant.admin.id}.role`, "user");
  expect((await api.send("GET", "/users/me", { as: tenant.admin.token })).body.role).toBe("user");
  expect((await api.send("GET", "/audit", { as: tenant.admin.token })).status).toBe(403);
});
