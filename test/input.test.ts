/** What every route does with input that is not right, and with methods that it does not have. */
import { afterAll, describe, expect, test } from "vitest";
import usersMe from "../functions/users-me.ts";
import { createApp } from "../shared/app.ts";
import { allowedMethods, type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness, type TestTenant } from "./support/harness.ts";
import { bodyOf, expectProblem, samples } from "./support/samples.ts";
import { isDeployed, skip } from "./support/skip.ts";

/** With the default limit of a value. */
const MAX_BODY = 256 * 1024 + 32 * 1024;
const api = await createHarness();
afterAll(() => api.close());

const all: readonly Route[] = routes;
const withBody: readonly RouteId[] = ["token-issue", "data-create", "data-update", "api-keys-create"];
const sampleOf = (route: Route, tenant: TestTenant) => samples[route.id as RouteId](api, tenant);

describe.each(all.filter(({ id }) => withBody.includes(id as RouteId)))(
  "$id: a body that is not right",
  (route) => {
    const jsonType = { "content-type": "application/json" };
    test.each([
      [
        "too large by its length",
        413,
        "payload_too_large",
        { raw: `"${"x".repeat(MAX_BODY)}"`, headers: jsonType },
      ],
      ["too large without a length", 413, "payload_too_large", { stream: MAX_BODY + 1, headers: jsonType }],
      ["of another type", 415, "unsupported_media_type", { headers: { "content-type": "text/plain" } }],
      ["of no type", 415, "unsupported_media_type", { headers: { "content-type": "" } }],
      [
        "in another charset",
        415,
        "unsupported_media_type",
        { headers: { "content-type": "application/json; charset=utf-16" } },
      ],
      ["compressed", 415, "unsupported_media_type", { headers: { ...jsonType, "content-encoding": "gzip" } }],
      ["cut off", 400, "malformed_request", { raw: '{"', headers: jsonType }],
      ["empty", 400, "malformed_request", { raw: "", headers: jsonType }],
      ["not UTF-8", 400, "malformed_request", { raw: new Uint8Array([0x22, 0xff, 0x22]), headers: jsonType }],
      ["an array", 422, "validation_failed", { raw: "[]", headers: jsonType }],
      ["with an unknown field", 422, "validation_failed", { unknown: "nosuch" }],
      ["with a prototype", 422, "validation_failed", { unknown: "__proto__" }],
    ])("%s: %i, nothing stored, one failure in the trail", async (_, status, code, spoil) => {
      const tenant = await api.tenant();
      const sample = await sampleOf(route, tenant);
      const before = { trail: await api.trail(tenant), keys: await api.storedKeys(tenant) };
      const answer = await api.send(route.method, sample.path, {
        as: tenant.admin.token,
        ...("raw" in spoil ? { raw: spoil.raw as string } : bodyOf(sample)),
        ...("unknown" in spoil
          ? { raw: withField(sample.json ?? {}, spoil.unknown as string), headers: jsonType }
          : {}),
        ...("stream" in spoil ? { raw: endless(spoil.stream as number) } : {}),
        ...("headers" in spoil ? { headers: spoil.headers as Record<string, string> } : {}),
      });
      expectProblem(answer, status, code);
      expect(await api.storedKeys(tenant)).toEqual(before.keys);
      const entries = (await api.trail(tenant)).slice(before.trail.length);
      const audited =
        route.credential === "none"
          ? []
          : [{ action: route.audit, outcome: "failure", details: { reason: code } }];
      expect(entries).toMatchObject(audited);
      expect(entries).toHaveLength(audited.length);
    });
  },
);

describe.each(all)("$id: HTTP", (route) => {
  test("an unknown query parameter: refused", async () => {
    const tenant = await api.tenant();
    const sample = await sampleOf(route, tenant);
    const answer = await api.send(route.method, `${sample.path}?nosuch=1`, {
      as: tenant.admin.token,
      ...bodyOf(sample),
    });
    expect([400, 422]).toContain(answer.status);
  });

  test("a method that the path does not have: 405 with Allow; OPTIONS tells the same", async () => {
    const tenant = await api.tenant();
    const { path } = await sampleOf(route, tenant);
    const answer = await api.send("PATCH", path, { as: tenant.admin.token });
    expectProblem(answer, 405, "method_not_allowed");
    const allow = allowedMethods(route.path).join(", ");
    expect(allow).toContain(route.method);
    expect(answer.headers.get("allow")).toBe(allow);
    const options = await api.send("OPTIONS", path);
    expect([options.status, options.headers.get("allow")]).toEqual([204, allow]);
  });

  test("a request id is kept when it is well-formed and made otherwise", async () => {
    const { path } = await sampleOf(route, await api.tenant());
    const echo = async (id: string) =>
      (await api.send(route.method, path, { headers: { "x-request-id": id } })).headers.get("x-request-id");
    const kept = await echo("my-Request_1");
    if (isDeployed() && kept !== "my-Request_1") skip("the gateway gives requests ids of its own");
    expect(kept).toBe("my-Request_1");
    // Some gateways make one where there is none.
    const made = isDeployed() ? /^[\w-]{1,128}$/ : /^[0-9A-Za-z]{22}$/;
    for (const bad of ["", "a b", "x".repeat(129), "é"]) expect(await echo(bad)).toMatch(made);
  });
});

test.each(["DELETE"])("a body where none belongs: refused (%s)", async (method) => {
  const tenant = await api.tenant();
  const sample = await samples["data-delete"](api, tenant);
  expectProblem(
    await api.send(method, sample.path, { as: tenant.admin.token, json: {} }),
    400,
    "malformed_request",
  );
});

test("a chunked body of no bytes is no body", async () => {
  const tenant = await api.tenant();
  const sample = await samples["data-delete"](api, tenant);
  const remove = (bytes: number) =>
    api.send("DELETE", sample.path, { as: tenant.admin.token, raw: endless(bytes) });
  expectProblem(await remove(1), 400, "malformed_request");
  expect((await remove(0)).status).toBe(204);
});

test("an unknown path: 404 as problem+json", async () => {
  const answer = await api.send("GET", "/nowhere");
  expect(answer.status).toBe(404);
  if (isDeployed() && answer.body?.code === undefined) skip("the gateway answers what is no path of the API");
  expectProblem(answer, 404, "not_found");
});

const withField = (json: Record<string, unknown>, name: string): string =>
  `${JSON.stringify(json).slice(0, -1)},${JSON.stringify(name)}:{"admin":true}}`;

/** A body of this many bytes whose length is not declared. */
function endless(size: number): ReadableStream {
  let left = size;
  return new ReadableStream({
    pull(controller) {
      if (left <= 0) return controller.close();
      controller.enqueue(new Uint8Array(Math.min(left, 4096)).fill(0x20));
      left -= 4096;
    },
  });
}

test("a length that is no number counts as too large", async () => {
  const tenant = await api.tenant();
  const raw = new Blob(['{"key":"a","value":1}']).stream();
  const headers = { "content-type": "application/json", "content-length": "x" };
  expectProblem(
    await api.send("POST", "/data", { as: tenant.admin.token, raw, headers }),
    413,
    "payload_too_large",
  );
});

test("a body without a value has 32 KiB at most", async () => {
  const tenant = await api.tenant();
  const headers = { "content-type": "application/json" };
  for (const path of ["/token", "/api-keys"]) {
    const raw = " ".repeat(32 * 1024 + 1);
    expectProblem(
      await api.send("POST", path, { as: tenant.admin.token, raw, headers }),
      413,
      "payload_too_large",
    );
  }
});

test("a field that the reply's schema does not name cannot leave", async () => {
  const view = { username: "u", email: null, full_name: null, disabled: false, tenant_id: "t", role: "user" };
  const users = { me: async () => ({ ...view, password: "hash" }) };
  const caller = { kind: "user", tenantId: "t", userId: "u", epoch: 0 } as const;
  const gate = {
    authenticator: { verifyToken: async () => caller, hashKey: () => [], keyEnv: "test" },
    refuse: async () => undefined,
    maxValueBytes: 1,
    trustedProxies: 0,
  };
  const app = createApp([usersMe], { users } as never, gate);
  const answer = await app.request("/users/me", { headers: { authorization: "Bearer x" } });
  expect([answer.status, await answer.json()]).toEqual([200, view]);
});
