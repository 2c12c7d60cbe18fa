/** Which web pages may call the API, as a browser asks. */
import { afterAll, describe, expect, test } from "vitest";
import { allowedMethods, type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness } from "./support/harness.ts";
import { bodyOf, expectProblem, samples } from "./support/samples.ts";

const PAGE = "https://console.example.com";
const OTHER = "http://localhost:5173";
const api = await createHarness({ LATCHKEY_CORS_ORIGINS: `${PAGE},${OTHER}` });
const closed = await createHarness();
const open = await createHarness({ LATCHKEY_CORS_ORIGINS: "*" });
afterAll(() => Promise.all([api.close(), closed.close(), open.close()]));

const corsHeaders = (headers: Headers): string[][] =>
  [...headers].filter(([name]) => name.startsWith("access-control-"));
const preflight = (origin: string, method = "PUT") => ({
  headers: {
    origin,
    "access-control-request-method": method,
    "access-control-request-headers": "authorization",
  },
});

describe.each(routes as readonly Route[])("$id", (route) => {
  test("a preflight from a listed origin is told the methods of the path and the headers it may send", async () => {
    const { path } = await samples[route.id as RouteId](api, await api.tenant());
    const { status, headers, text } = await api.send("OPTIONS", path, preflight(PAGE, route.method));
    const allow = allowedMethods(route.path).join(", ");
    expect([status, text, headers.get("allow")]).toEqual([204, "", allow]);
    expect(headers.get("access-control-allow-origin")).toBe(PAGE);
    expect(headers.get("access-control-allow-methods")).toBe(allow);
    for (const name of ["Authorization", "Content-Type", "X-API-Key", "If-Match"]) {
      expect(headers.get("access-control-allow-headers")).toContain(name);
    }
    expect(Number(headers.get("access-control-max-age"))).toBeGreaterThan(0);
  });

  test("its answer can be read by a page of a listed origin, and errors too", async () => {
    const tenant = await api.tenant();
    const sample = await samples[route.id as RouteId](api, tenant);
    const from = { headers: { origin: OTHER }, ...bodyOf(sample) };
    const good = await api.send(route.method, sample.path, { as: tenant.admin.token, ...from });
    const bad = await api.send("PATCH", sample.path, from);
    expect([good.status, bad.status]).toEqual([sample.status, 405]);
    for (const { headers } of [good, bad]) {
      expect(headers.get("access-control-allow-origin")).toBe(OTHER);
      expect(headers.get("access-control-expose-headers")).toContain("ETag");
      expect(headers.get("vary")).toMatch(/(^|, )Origin$/);
    }
  });
});

test.each([
  "https://evil.example.com",
  "null",
  `${PAGE}.evil.com`,
  "http://console.example.com",
  PAGE.toUpperCase(),
])("another origin is told nothing (%s)", async (origin) => {
  const asked = await api.send("OPTIONS", "/data", preflight(origin, "POST"));
  expect([asked.status, asked.headers.get("allow")]).toEqual([204, "POST, OPTIONS"]);
  expect(corsHeaders(asked.headers)).toEqual([]);
  const sent = await api.send("GET", "/users/me", { headers: { origin } });
  expectProblem(sent, 401, "unauthenticated");
  expect(corsHeaders(sent.headers)).toEqual([]);
  expect(sent.headers.get("vary")).toBe("Origin");
});

test("OPTIONS that asks for no method is no preflight", async () => {
  const { headers } = await api.send("OPTIONS", "/data", { headers: { origin: PAGE } });
  expect(corsHeaders(headers).map(([name]) => name)).toEqual([
    "access-control-allow-origin",
    "access-control-expose-headers",
  ]);
});

test("without configured origins nobody is told anything", async () => {
  const { status, headers } = await closed.send("OPTIONS", "/data", preflight(PAGE, "POST"));
  expect([status, corsHeaders(headers), headers.get("vary")]).toEqual([204, [], null]);
});

test("* is for all, and never allows cookies", async () => {
  const { headers } = await open.send("OPTIONS", "/data/a", preflight("https://any.example"));
  expect([headers.get("access-control-allow-origin"), headers.get("vary")]).toEqual(["*", null]);
  expect(headers.get("access-control-allow-credentials")).toBeNull();
});
