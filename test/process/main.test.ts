/** `node shared/node/main.ts <id>`: the entry of every pod, with the configuration of a deployment. */
import { parseEnv } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { type Route, routes } from "../../shared/routes.ts";
import { ask, prepare } from "../support/endpoints.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  PASSWORD,
  type ProcessTenant,
  type Program,
  runScript,
  send,
  serveFunctions,
} from "../support/process.ts";

const MAIN = "shared/node/main.ts";
let redis: OwnRedis;
let secrets: Record<string, string>;
let tenant: ProcessTenant;
/** A process that serves everything, which puts things in place for the others. */
let all: Program;
let allOrigin: string;

beforeAll(async () => {
  redis = await ownRedis(["--appendonly", "no"]);
  secrets = await makeSecrets("demo");
  tenant = await createProcessTenant(redis.redis, secrets, "pods");
  const served = await serving("all", signing());
  all = served.program;
  allOrigin = served.origin;
});
afterAll(async () => {
  redis.redis.disconnect();
  await cleanUp();
});

/** The environment of a pod; only who signs tokens gets the private key. */
const environment = (changes: Record<string, string | undefined> = {}) => ({
  REDIS_URL: redis.url,
  LATCHKEY_MODE: "local",
  ...secrets,
  LATCHKEY_JWT_PRIVATE_KEY: undefined,
  ...changes,
});
const signing = () => ({ LATCHKEY_JWT_PRIVATE_KEY: secrets["LATCHKEY_JWT_PRIVATE_KEY"] });

const serving = (id: string, changes: Record<string, string | undefined> = {}) =>
  serveFunctions(id, environment(changes));

async function stopped(program: Program): Promise<void> {
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
}

async function expectSystemRoutes(origin: string): Promise<void> {
  for (const path of ["/health", "/health/liveness", "/health/readiness"]) {
    const { status, body } = await send(origin, "GET", path);
    expect([path, status, body]).toEqual([path, 200, { status: "ok" }]);
  }
  const metrics = await send(origin, "GET", "/metrics");
  expect([metrics.status, metrics.headers.get("content-type")]).toEqual([
    200,
    expect.stringMatching(/^text\/plain/),
  ]);
}

test.each(routes.map((route: Route) => [route.id, route] as const))(
  "`%s` serves its own endpoint and no other",
  async (id, route) => {
    const { program, origin } = await serving(id, id === "token-issue" ? signing() : {});
    const keyId = await prepare(allOrigin, tenant, id);
    const own = await ask(origin, route, tenant, keyId);
    expect(own.status).toBe(own.expected);
    for (const other of routes.filter((one) => one.id !== id)) {
      const { status, body } = await ask(origin, other, tenant, keyId);
      const samePath = other.path === route.path;
      expect([other.id, status, body.code]).toEqual([
        other.id,
        ...(samePath ? [405, "method_not_allowed"] : [404, "not_found"]),
      ]);
    }
    await expectSystemRoutes(origin);
    await stopped(program);
  },
);

test("`all` serves every endpoint", async () => {
  for (const route of routes) {
    const keyId = await prepare(allOrigin, tenant, route.id);
    const { status, expected } = await ask(allOrigin, route, tenant, keyId);
    expect([route.id, status]).toEqual([route.id, expected]);
  }
  await expectSystemRoutes(allOrigin);
  expect(all.isRunning()).toBe(true);
});

test("an id that is no function is answered with the usage", async () => {
  for (const args of [["data-steal"], [], ["../../functions/data-get"]]) {
    const { code, stderr } = await runScript(MAIN, { args, env: environment() }).ended();
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^Usage: node shared\/node\/main\.ts .+\n$/)]);
  }
});

test("whoever signs tokens does not start without the private key", async () => {
  for (const id of ["token-issue", "all"]) {
    const { code, stderr } = await runScript(MAIN, { args: [id], env: environment() }).ended();
    expect([code, stderr]).toEqual([1, "Wrong configuration:\nLATCHKEY_JWT_PRIVATE_KEY: missing\n"]);
  }
});

test("production refuses demo secrets by the variables' names, and starts with those of `npm run secrets`", async () => {
  const production = { LATCHKEY_MODE: undefined };
  const demo = await runScript(MAIN, {
    args: ["all"],
    env: environment({ ...production, ...signing() }),
  }).ended();
  expect(demo.code).toBe(1);
  expect(demo.stderr).toMatch(/^LATCHKEY_JWT_PUBLIC_KEYS: .*demo/m);
  expect(demo.stderr).toMatch(/^LATCHKEY_API_KEY_PEPPERS: .*demo/m);

  const printed = await runScript("shared/node/dev/print-secrets.ts").ended();
  const fresh = parseEnv(printed.stdout);
  const { program, origin } = await serving("all", { ...production, ...fresh });
  const login = await send(origin, "POST", "/token", {
    json: { username: tenant.username, password: PASSWORD },
  });
  const as = login.body.access_token;
  const key = await send(origin, "POST", "/api-keys", { as, json: { name: "live" } });
  expect(key.body.key_value).toMatch(/^lk_live_/);
  // A token that the demo key has signed is worth nothing here.
  expect((await send(origin, "GET", "/users/me", { as: tenant.token })).status).toBe(401);
  await stopped(program);
});
