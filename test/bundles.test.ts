/** `npm run bundle`: what each file holds, and that it works by itself, as in the image, far from the repository. */
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Script } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Bundle,
  bundleNames,
  bundlePath,
  packagesIn,
  writeBundles,
} from "../shared/node/dev/bundles.ts";
import { makeSecrets } from "../shared/node/dev/make-secrets.ts";
import { codeCacheOf } from "../shared/node/program.ts";
import { eventRoutes, routes } from "../shared/routes.ts";
import { ask, prepare, routesById } from "./support/endpoints.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  type ProcessTenant,
  repository,
  run,
  send,
  temporaryFolder,
} from "./support/process.ts";

const ioredis =
  "@ioredis/commands cluster-key-slot debug denque ioredis ms redis-errors standard-as-callback";
const store = `${ioredis} zod`.split(" ");
/** What every process that serves something is made of. */
const serving = [
  ...store,
  ...["@hono/node-server", "hono"],
  ...["@pinojs/redact", "atomic-sleep", "on-exit-leak-free", "pino", "pino-std-serializers"],
  ...["quick-format-unescaped", "safe-stable-stringify", "sonic-boom", "prom-client"],
];
const cloudevents = ["ajv", "ajv-formats", "bignumber.js", "cloudevents", "json-bigint", "uuid"];

/** The packages in each bundle. Whoever changes this table makes every cold start longer or shorter. */
const packages: Record<string, readonly string[]> = {
  ...Object.fromEntries(eventRoutes.map(({ id }) => [id, serving])),
  ...Object.fromEntries(routes.map(({ id }) => [id, [...serving, ...cloudevents, "jose"]])),
  all: [...serving, ...cloudevents, "jose"],
  admin: store,
};
/** Those that hash passwords, which loads a native package. */
const hashing = ["token-issue", "all", "admin"];

let folder: string;
let bundles: Record<string, Bundle>;
let redis: OwnRedis;
let secrets: Record<string, string>;
let tenant: ProcessTenant;
let allOrigin: string;

beforeAll(async () => {
  folder = join(temporaryFolder(), "dist");
  bundles = await writeBundles(folder);
  redis = await ownRedis(["--appendonly", "no"]);
  secrets = await makeSecrets("demo");
  tenant = await createProcessTenant(redis.redis, secrets, "bundles");
  allOrigin = (await start("all")).origin;
});
afterAll(async () => {
  redis.redis.disconnect();
  await cleanUp();
});

/** As the image does: the name is looked up in the folder that the process works in. */
const runBundle = (args: readonly string[], env: Record<string, string> = {}) =>
  run("node", args, { cwd: folder, env: { REDIS_URL: redis.url, ...env } });

async function start(name: string, more: Record<string, string> = {}, args: readonly string[] = [name]) {
  const program = runBundle(args, {
    ...more,
    ...{ PORT: "0", LATCHKEY_MODE: "local" },
    ...secrets,
    // audit-ship does not start without one; nothing is ever sent there.
    ...(name === "audit-ship" ? { LOKI_URL: "http://127.0.0.1:9" } : {}),
  });
  const [, port] = await program.says(/"port":(\d+)/);
  return { program, origin: `http://127.0.0.1:${port}` };
}

const inputsOf = (name: string): string[] => Object.keys(bundles[name]?.inputs ?? {});
const textOf = (name: string): string => readFileSync(bundlePath(folder, name), "utf8");

test("there is a bundle for every function, one for all of them and one for operators", () => {
  expect(Object.keys(bundles)).toEqual(bundleNames);
  expect(Object.keys(packages).sort()).toEqual([...bundleNames].sort());
});

test.each(bundleNames)("%s holds these packages and no others", (name) => {
  const found = new Set(packagesIn(bundles[name] as Bundle).map((one) => one.name));
  expect([...found].sort()).toEqual([...(packages[name] ?? [])].sort());
  expect(textOf(name).includes("@node-rs/argon2")).toBe(hashing.includes(name));
});

test.each(bundleNames)("%s holds no other function, no development code and no tests", (name) => {
  const inputs = inputsOf(name).filter((file) => !file.startsWith("node_modules/"));
  const functions = inputs.filter((file) => file.startsWith("functions/"));
  const expected = name === "all" ? routes.map(({ id }) => id) : name === "admin" ? [] : [name];
  expect(functions.sort()).toEqual(expected.map((id) => `functions/${id}.ts`).sort());
  expect(inputs.filter((file) => /^test\/|\/dev\//.test(file))).toEqual([]);
});

test("bundling leaves less than half of what it reads, and a function alone is never larger than all", () => {
  for (const [name, { bytes, inputs }] of Object.entries(bundles)) {
    const before = Object.values(inputs).reduce((sum, one) => sum + one.before, 0);
    expect([name, bytes / before < 0.5]).toEqual([name, true]);
    expect([name, bytes <= (bundles["all"]?.bytes ?? 0)]).toEqual([name, true]);
  }
  // Its namespace object would bring error messages in 50 languages: `import * as z` lets them be left out.
  const zod = inputsOf("all").filter((file) => /node_modules\/zod\/.*\/locales\/(?!index)/.test(file));
  expect(zod).toEqual(["node_modules/zod/v4/locales/en.js"]);
});

test("a folder that holds anything but bundles is left as it is", async () => {
  const other = temporaryFolder();
  writeFileSync(join(other, "mine.txt"), "mine");
  await expect(writeBundles(other)).rejects.toThrow("holds something else");
  expect(readFileSync(join(other, "mine.txt"), "utf8")).toBe("mine");
});

test("the folder holds our license, those of all packages, and a bill of materials that names each", () => {
  expect(readFileSync(join(folder, "LICENSE"), "utf8")).toContain("Apache License");
  const licenses = readFileSync(join(folder, "THIRD-PARTY-LICENSES.txt"), "utf8");
  const { components } = JSON.parse(readFileSync(join(folder, "sbom.cdx.json"), "utf8"));
  const listed: string[] = components.map(({ name }: { name: string }) => name);
  for (const name of [...Object.values(packages).flat(), "@node-rs/argon2"]) {
    expect([name, listed.includes(name), licenses.includes(`\n${name} `) || licenses.startsWith(`${name} `)]) //
      .toEqual([name, true, true]);
  }
  for (const { purl, licenses } of components) {
    expect([purl, licenses[0].license.id]).toEqual([
      expect.stringMatching(/^pkg:npm\/(%40[\w-]+\/)?[\w.-]+@\d+\.\d+\.\d+/),
      expect.any(String),
    ]);
  }
});

test.each(routes.map(({ id }) => id))("%s.js answers its endpoint, and ends on SIGTERM", async (id) => {
  const keyId = await prepare(allOrigin, tenant, id);
  const { program, origin } = await start(id);
  const { status, expected } = await ask(origin, routesById.get(id) as never, tenant, keyId);
  expect(status).toBe(expected);
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
});

test.each(eventRoutes)("the bundle of $id takes events, and ends on SIGTERM", async ({ id, path }) => {
  const { program, origin } = await start(id);
  const { status } = await send(origin, "POST", path, { json: {} });
  // Those that read the event refuse one that is not ours; the others are only called by it.
  expect(status).toBe(id === "audit-ship" ? 400 : 204);
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
});

test("what V8 has compiled until an answer is stored, and taken by the next start", async () => {
  const file = bundlePath(folder, "users-me");
  const own = async (...args: string[]) => {
    const { program, origin } = await start("users-me", {}, args);
    expect((await send(origin, "GET", "/users/me", { as: tenant.token })).status).toBe(200);
    program.kill("SIGTERM");
    return program.ended();
  };
  await own(join(repository, "shared/node/dev/write-code-cache.ts"), file);
  // Most functions are compiled when they are called.
  const unused = new Script(readFileSync(file, "utf8")).createCachedData();
  expect(statSync(codeCacheOf(file)).size).toBeGreaterThan(2 * unused.length);

  const program = JSON.stringify(join(repository, "shared/node/program.ts"));
  const { stdout } = await own(
    "-e",
    `console.log(require(${program}).runBundle(${JSON.stringify(file)}).cachedDataRejected)`,
  );
  expect(stdout).toMatch(/^false$/m);
});

test("a bundle without compiled code that fits runs all the same", async () => {
  writeFileSync(codeCacheOf(bundlePath(folder, "admin")), "of another V8");
  expect((await runBundle(["admin", "list-dead-letters"]).ended()).code).toBe(0);
});

test("a function starts, says whether it is ready and answers without loading Node's fetch", async () => {
  const probe = join(temporaryFolder(), "probe.cjs");
  const isLoaded = 'process.moduleLoadList.includes("NativeModule internal/deps/undici/undici")';
  writeFileSync(
    probe,
    `process.on("exit", () => console.log("fetch:", ${isLoaded}, new Headers() && ${isLoaded}));`,
  );
  const watched = (env: Record<string, string>) =>
    start("data-create", env, ["--require", probe, "data-create"]);
  const json = { key: "light", value: 1 };

  const unready = await watched({ REDIS_URL: "unix:///nonexistent" });
  expect((await send(unready.origin, "GET", "/health/readiness")).status).toBe(503);
  const ready = await watched({});
  expect((await send(ready.origin, "POST", "/data", { as: tenant.token, json })).status).toBe(201);
  expect((await send(ready.origin, "POST", "/data", { json })).status).toBe(401);
  expect((await send(ready.origin, "GET", "/health/readiness")).status).toBe(200);
  for (const { program } of [unready, ready]) {
    program.kill("SIGTERM");
    expect((await program.ended()).stdout).toContain("fetch: false true");
  }
});

test("… and loads it for what needs it, such as a body of unknown length", async () => {
  const { program, origin } = await start("data-create");
  const text = JSON.stringify({ key: "chunked", value: "x".repeat(100_000) });
  async function* chunks() {
    for (const [from, to] of [[0, 10], [10, 70_000], [70_000]]) yield Buffer.from(text.slice(from, to));
  }
  const post = () =>
    fetch(`${origin}/data`, {
      method: "POST",
      headers: { authorization: `Bearer ${tenant.token}`, "content-type": "application/json" },
      body: chunks(),
      duplex: "half",
    } as unknown as RequestInit);
  const [created, again] = [await post(), await post()];
  expect([created.status, again.status]).toEqual([201, 409]);
  expect((await created.json()) as object).toMatchObject({ key: "chunked", value: "x".repeat(100_000) });
  expect((await send(origin, "GET", "/metrics")).status).toBe(200);
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
});

test("a bundled function publishes its audit entries as CloudEvents", async () => {
  const sink = createServer((_, response) => response.writeHead(202).end()).listen(0, "127.0.0.1");
  await once(sink, "listening");
  const { port } = sink.address() as AddressInfo;
  const { program, origin } = await start("users-me", { K_SINK: `http://127.0.0.1:${port}` });
  const published = once(sink, "request");
  expect((await send(origin, "GET", "/users/me", { as: tenant.token })).status).toBe(200);
  const [{ headers }] = await published;
  expect(headers).toMatchObject({
    "ce-type": "dev.latchkey.audit.get_user",
    "ce-source": "/functions/users-me",
    "ce-tenantid": tenant.id,
  });
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
  sink.close();
});

test("all.js serves every endpoint", async () => {
  for (const route of routes) {
    const keyId = await prepare(allOrigin, tenant, route.id);
    const { status, expected } = await ask(allOrigin, route, tenant, keyId);
    expect([route.id, status]).toEqual([route.id, expected]);
  }
});

test("admin.js carries out operators' commands", async () => {
  const { code, stdout } = await runBundle(["admin", "create-tenant", "acme"]).ended();
  expect([code, stdout]).toEqual([0, "Created the tenant acme\n"]);
  expect((await runBundle(["admin", "list-dead-letters"]).ended()).code).toBe(0);
});
