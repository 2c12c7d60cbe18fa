/**
 * The same function files in another runtime: workerd, run by Miniflare, over the Redis that the Node application uses
 * too. Every request of the table below is sent to both, in two fresh tenants, and both must answer alike, byte for
 * byte once ids and times have been replaced. Sequence numbers, and with them ETags and cursors, are not replaced:
 * the two tenants live through the same.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import {
  Miniflare,
  type Request as WorkerRequest,
  type RequestInit as WorkerRequestInit,
  Response as WorkerResponse,
} from "miniflare";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { makeSecrets } from "../shared/node/dev/make-secrets.ts";
import { Problem } from "../shared/problems.ts";
import { type RouteId, routes } from "../shared/routes.ts";
import { createTokenIssuer } from "../shared/tokens.ts";
import { type Comparable, comparer } from "./support/compare.ts";
import { type Answer, createHarness, type Send } from "./support/harness.ts";
import type { ScriptAnswer, ScriptCall, WorkerEnv } from "./support/worker.ts";
import { ITEM, JSON_TYPE, KEY, MAX_VALUE_BYTES, table, type World } from "./support/worker-requests.ts";

/** Not in the worker: the file would run there, but the password hasher that it needs, @node-rs/argon2, is native code. */
const NODE_ONLY: readonly RouteId[] = ["token-issue"];
/** Milliseconds for one answer of the worker. */
const ANSWER_TIMEOUT = 10_000;
/** The behaviour of workerd that this suite is written for. */
const COMPATIBILITY_DATE = "2026-04-01";

// Besides the usual Ed25519 key one for ES256, so that both algorithms are checked in both runtimes.
const { LATCHKEY_JWT_PRIVATE_KEY, LATCHKEY_JWT_PUBLIC_KEYS, ...secrets } = await makeSecrets("demo");
const es256 = await generateKeyPair("ES256", { extractable: true });
const es256Header = { kid: "demo-es256", alg: "ES256" };
const publicKeys = [
  ...(JSON.parse(LATCHKEY_JWT_PUBLIC_KEYS ?? "") as { keys: JWK[] }).keys,
  { ...es256Header, ...(await exportJWK(es256.publicKey)) },
];
const settings = {
  ...secrets,
  LATCHKEY_JWT_PUBLIC_KEYS: JSON.stringify({ keys: publicKeys }),
  LATCHKEY_VALUE_MAX_BYTES: String(MAX_VALUE_BYTES),
  LATCHKEY_TRUSTED_PROXIES: "1",
};
const signing = { LATCHKEY_JWT_PRIVATE_KEY: LATCHKEY_JWT_PRIVATE_KEY ?? "" };
const node = await createHarness({ ...settings, ...signing });

/** What the worker's scripts are run by now. */
let { run } = node.store;

const bundle = await bundleOf(fileURLToPath(new URL("./support/worker.ts", import.meta.url)));
// REDIS_URL is required of every process; in the worker it is checked and not used.
const variables = { ...settings, LATCHKEY_MODE: "local", REDIS_URL: "redis://store.invalid" };
// Miniflare empties its folder without waiting for it, and the process may end first; this one is ours to remove.
const folder = mkdtempSync(join(tmpdir(), "latchkey-worker-"));
vi.stubEnv("TMPDIR", folder);
const worker = new Miniflare({
  modules: true,
  script: bundle.text,
  compatibilityDate: COMPATIBILITY_DATE,
  compatibilityFlags: ["nodejs_compat"],
  bindings: { VARIABLES: variables satisfies WorkerEnv["VARIABLES"] },
  serviceBindings: { STORE: answerScriptCall },
  cf: false,
});
vi.unstubAllEnvs();

afterAll(async () => {
  await worker.dispose();
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  await node.close();
});

describe("what a worker is made of", () => {
  test("every function but token-issue is in the worker", () => {
    const expected = routes.filter(({ id }) => !NODE_ONLY.includes(id)).map(({ id }) => `functions/${id}.ts`);
    expect(bundle.files.filter((file) => file.startsWith("functions/")).sort()).toEqual(expected.sort());
  });

  test("no Redis client, server, log, metrics or native code is in it, and of Node only node:crypto", () => {
    // Whatever is not listed is not in it: ioredis, @hono/node-server, @node-rs/argon2, pino, prom-client.
    expect(bundle.packages.sort()).toEqual(["hono", "jose", "zod"]);
    expect(bundle.builtins).toEqual(["node:crypto"]);
    expect(bundle.files).not.toContain("shared/redis/store.ts");
    expect(bundle.files).not.toContain("shared/redis/scripts.ts");
    expect(bundle.files.filter((file) => file.startsWith("shared/node/"))).toEqual([
      "shared/node/key-hash.ts",
    ]);
  });

  test("no function file and nothing at the top level of shared/ needs Node or what stands on it", async () => {
    const { files, packages, builtins } = await bundleOf("functions/*.ts", "shared/*.ts");
    expect(files.filter((file) => !/^(functions|shared)\/[\w-]+\.ts$/.test(file))).toEqual([]);
    expect(packages.sort()).toEqual(["hono", "jose", "zod"]);
    expect(builtins).toEqual([]);
  });

  test.skip("token-issue runs in a worker (skipped: @node-rs/argon2 has no build for workerd)");
});

describe("every request is answered in workerd as in Node", () => {
  const answers: { inWorker?: Comparable; inNode?: Comparable }[] = table.map(() => ({}));
  const worlds: { inWorker?: World; inNode?: World } = {};

  beforeAll(async () => {
    const live = async (runtime: "inWorker" | "inNode", send: typeof sendToWorker) => {
      const world = await newWorld();
      const comparable = comparer();
      for (const [index, { request }] of table.entries()) {
        const [method, path, sent] = request(world);
        const headers = { ...sent.headers, "x-request-id": `row-${index}` };
        const answer = await send(method, path, { ...sent, headers }).catch(noAnswer);
        remember(world, answer);
        answers[index] = { ...answers[index], [runtime]: comparable(answer) };
      }
      worlds[runtime] = world;
    };
    await Promise.all([live("inWorker", sendToWorker), live("inNode", node.send)]);
  });

  test("every function is asked for a success and for a refusal without a credential", () => {
    for (const { id } of routes.filter((route) => !NODE_ONLY.includes(route.id))) {
      const statuses = table.filter((one) => one.id === id).map(({ status }) => status);
      expect(Math.min(...statuses), id).toBeLessThan(300);
      expect(statuses, id).toContain(401);
    }
  });

  for (const [index, { id, what, status }] of table.entries()) {
    test(`${id}, ${what}: ${status}`, () => {
      const { inWorker, inNode } = answers[index] ?? {};
      expect(inWorker?.status).toBe(status);
      expect(inWorker).toEqual(inNode);
    });
  }

  test("and leaves the same audit trail, entry by entry", async () => {
    const trailOf = async ({ tenant }: World) => comparer().text(JSON.stringify(await node.trail(tenant)));
    const { inWorker, inNode } = worlds;
    if (inWorker === undefined || inNode === undefined) throw new Error("the table was not lived through");
    const trail = JSON.parse(await trailOf(inWorker)) as { seq: number }[];
    expect(trail.length).toBeGreaterThan(table.length / 2);
    expect(trail).toEqual(JSON.parse(await trailOf(inNode)));
  });
});

describe("two runtimes on one Redis", () => {
  for (const [first, second, sendFirst, sendSecond] of [
    ["workerd", "Node", sendToWorker, node.send],
    ["Node", "workerd", node.send, sendToWorker],
  ] as const) {
    test(`an API key made in ${first} opens ${second}, until ${first} takes it away`, async () => {
      const { admin } = await node.tenant();
      const made = await sendFirst("POST", "/api-keys", { as: admin.token, json: { name: "shared" } });
      const { key_id: id, key_value: as } = made.body;
      expect((await sendSecond("POST", "/data", { as, json: { key: KEY, value: 1 } })).status).toBe(201);
      expect((await sendFirst("DELETE", `/api-keys/${id}`, { as: admin.token })).status).toBe(204);
      const refused = await sendSecond("GET", ITEM, { as });
      expect(refused.status).toBe(401);
      expect(refused.headers.get("www-authenticate")).toBe('Bearer realm="latchkey", error="invalid_token"');
    });

    test(`an item made in ${first} is found by its Location in ${second}, and changed by its ETag`, async () => {
      const { user } = await node.tenant();
      const as = user.token;
      const value = ["\ud800", "\u0000", 0.1];
      const made = await sendFirst("POST", "/data", { as, json: { key: KEY, value } });
      const location = made.headers.get("location") ?? "";
      expect(location).toBe(ITEM);
      const found = await sendSecond("GET", location, { as });
      expect(found.text).toBe(made.text);
      expect(found.body).toMatchObject({ key: KEY, value });
      const ifMatch = { "if-match": found.headers.get("etag") ?? "" };
      const change = { as, json: { value: 2 }, headers: ifMatch };
      expect((await sendSecond("PUT", location, change)).status).toBe(200);
      expect((await sendFirst("PUT", location, change)).status).toBe(412);
    });
  }

  test("of many creators of one key in both runtimes exactly one succeeds", async () => {
    const { user } = await node.tenant();
    const creators = Array.from({ length: 20 }, (_, index) => (index % 2 ? sendToWorker : node.send));
    const answers = await Promise.all(
      creators.map((send) => send("POST", "/data", { as: user.token, json: { key: "one", value: 1 } })),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([201, ...Array<number>(19).fill(409)]);
  });

  test("a request that brings no id, or none that may be used, gets one of its own", async () => {
    const headers = [{}, {}, { "x-request-id": "not an id" }];
    const answers = await Promise.all(headers.map((one) => sendToWorker("GET", "/data/a", { headers: one })));
    for (const { headers, body } of answers) {
      expect(headers.get("x-request-id")).toMatch(/^[0-9A-Za-z]{22}$/);
      expect(body.request_id).toBe(headers.get("x-request-id"));
    }
    expect(new Set(answers.map(({ body }) => body.request_id)).size).toBe(answers.length);
  });
});

describe("when something is broken, workerd answers as Node does", () => {
  test("503 with Retry-After while Redis is away", async () => {
    const { user } = await node.tenant();
    const request = { as: user.token, headers: { "x-request-id": "away" } };
    const away = await createHarness({ ...settings, ...signing, REDIS_URL: "unix://./no-such.sock" });
    run = away.store.run;
    try {
      const [inWorker, inNode] = await Promise.all([
        sendToWorker("GET", "/data/a", request),
        away.send("GET", "/data/a", request),
      ]);
      expect(inWorker.status).toBe(503);
      expect(inWorker.headers.get("retry-after")).toBe("1");
      expect(comparer()(inWorker)).toEqual(comparer()(inNode));
    } finally {
      run = node.store.run;
      away.redis.disconnect();
    }
    expect((await sendToWorker("GET", "/data/a", request)).status).toBe(404);
  });

  test("500 with a fixed text for an error that nobody foresaw", async () => {
    const { user, keys } = await node.tenant();
    await node.redis.set(keys.item("odd"), "not what an item looks like");
    const request = { as: user.token, headers: { "x-request-id": "odd" } };
    const inWorker = await sendToWorker("GET", "/data/odd", request);
    expect(inWorker.body).toEqual({
      type: "urn:latchkey:problem:internal-error",
      title: "Something went wrong on our side",
      status: 500,
      instance: "/data/odd",
      code: "internal_error",
      request_id: "odd",
    });
    expect(comparer()(inWorker)).toEqual(comparer()(await node.send("GET", "/data/odd", request)));
  });
});

/** Bundle as for a worker. @returns the text, and what of this repository, of npm and of Node is in it */
async function bundleOf(...entryPoints: string[]) {
  const { outputFiles, metafile } = await build({
    entryPoints,
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    bundle: true,
    write: false,
    outdir: "out",
    metafile: true,
    format: "esm",
    splitting: true,
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker"],
    external: ["node:*"],
  });
  const inputs = Object.keys(metafile.inputs);
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  const packageOf = (file: string) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? [];
  return {
    text: outputFiles[0]?.text ?? "",
    files: inputs.filter((file) => !file.includes("node_modules/")),
    packages: [...new Set(inputs.flatMap(packageOf))],
    builtins: [...new Set(imports.filter(({ external }) => external).map(({ path }) => path))],
  };
}

/** The Node side of the worker's store. */
async function answerScriptCall(request: WorkerRequest): Promise<WorkerResponse> {
  const { script, keys, args } = (await request.json()) as ScriptCall;
  const answer: ScriptAnswer = await run(script, keys, args).then(
    (reply) => ({ reply }),
    (error) => {
      if (!(error instanceof Problem)) return { error: String(error) };
      const { code, detail } = error;
      return { problem: { code, ...(detail === undefined ? {} : { detail }) } };
    },
  );
  return WorkerResponse.json(answer);
}

async function sendToWorker(method: string, path: string, send: Send = {}): Promise<Answer> {
  const { as, json, raw, headers } = send;
  const body = raw ?? (json === undefined ? undefined : JSON.stringify(json));
  const response = await worker.dispatchFetch(`http://latchkey.test${path}`, {
    method,
    headers: {
      // Miniflare would compress, which is no part of what is compared.
      "accept-encoding": "identity",
      ...(as === undefined ? {} : { authorization: `Bearer ${as}` }),
      ...(json === undefined ? {} : JSON_TYPE),
      ...headers,
    },
    ...(body === undefined ? {} : { body: body as NonNullable<WorkerRequestInit["body"]>, duplex: "half" }),
    signal: AbortSignal.timeout(ANSWER_TIMEOUT),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: new Headers([...response.headers]),
    text,
    body: text === "" ? undefined : JSON.parse(text),
  };
}

/** What a row is compared by when nothing came back, so that the rows after it still say what they found. */
const noAnswer = (error: Error): Answer => ({
  status: 0,
  headers: new Headers(),
  text: `${error} ${error.cause ?? ""}`,
  body: undefined,
});

async function newWorld(): Promise<World> {
  const [tenant, other] = await Promise.all([node.tenant(), node.tenant()]);
  const principal = { tenantId: tenant.id, userId: tenant.admin.id, role: "admin", epoch: 0 } as const;
  const tokens = {
    issuer: node.config.LATCHKEY_JWT_ISSUER,
    audience: node.config.LATCHKEY_JWT_AUDIENCE,
    lifetime: 600,
  };
  const own = node.config.LATCHKEY_JWT_PRIVATE_KEY as JWK;
  const foreign = JSON.parse((await makeSecrets("demo"))["LATCHKEY_JWT_PRIVATE_KEY"] ?? "") as JWK;
  const issuers = await Promise.all([
    createTokenIssuer({ ...es256Header, ...(await exportJWK(es256.privateKey)) }, tokens),
    createTokenIssuer(own, tokens, () => Date.now() - 2 * tokens.lifetime * 1000),
    createTokenIssuer(foreign, tokens),
  ]);
  const [byEs256, expired, forged] = await Promise.all(issuers.map((issue) => issue(principal)));
  return {
    tenant,
    admin: tenant.admin.token,
    user: tenant.user.token,
    stranger: other.admin.token,
    es256: byEs256?.token ?? "",
    expired: expired?.token ?? "",
    forged: forged?.token ?? "",
    keys: [],
    etag: "",
    next: "",
  };
}

function remember(world: World, { headers, body }: Answer): void {
  if (body?.key_value !== undefined) world.keys.push({ id: body.key_id, text: body.key_value });
  world.etag = headers.get("etag") ?? world.etag;
  world.next = /^<(.+)>; rel="next"$/.exec(headers.get("link") ?? "")?.[1] ?? "/no-link";
}
