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
import { afterAll, beforeAll, describe, expect, inject, test, vi } from "vitest";
import { makeSecrets } from "../shared/node/dev/make-secrets.ts";
import { Problem } from "../shared/problems.ts";
import { createRedis, createRunScript } from "../shared/redis/client.ts";
import { type RouteId, routes } from "../shared/routes.ts";
import { createTokenIssuer } from "../shared/tokens.ts";
import { type Answer, createHarness, type Send, type TestTenant } from "./support/harness.ts";
import type { ScriptAnswer, ScriptCall, WorkerEnv } from "./support/worker.ts";

/** Not in the worker: the file would run there, but the password hasher that it needs, @node-rs/argon2, is native code. */
const NODE_ONLY: readonly RouteId[] = ["token-issue"];
/** Small, so that a value which is too large is a small request. */
const MAX_VALUE_BYTES = 1_000;
/**
 * More than the largest body that is read: the value and 32 KiB around it. Only for rows with a credential: without one
 * workerd answers at once, and Miniflare's connection may be reset before such a body has been sent.
 */
const TOO_LONG = 40_000;
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

const redis = createRedis(inject("redisUrl"), () => undefined);
const runScript = createRunScript(redis, () => undefined);
/** What the worker's scripts are run by now. */
let run = runScript;

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
  await Promise.all([redis.quit(), node.close()]);
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
    expect(bundle.files).not.toContain("shared/redis/client.ts");
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

/** What a row can refer to: its tenant's people, and what earlier answers brought. */
interface World {
  readonly tenant: TestTenant;
  readonly admin: string;
  readonly user: string;
  /** An admin of another tenant. */
  readonly stranger: string;
  readonly es256: string;
  readonly expired: string;
  readonly forged: string;
  /** API keys as they were made: one with the usual scopes, one that only reads, one that is deleted on the way. */
  readonly keys: { readonly id: string; readonly text: string }[];
  /** Of the latest answer that had one. */
  etag: string;
  /** Where the Link header of the answer before leads. */
  next: string;
}

interface Row {
  readonly id: RouteId | "any path";
  readonly status: number;
  readonly what: string;
  readonly request: (world: World) => Sent;
}
const row = (id: Row["id"], status: number, what: string, request: Row["request"]): Row => {
  return { id, status, what, request };
};

type Sent = readonly [method: string, path: string, send: Send];
type Sending = (path: string, as?: string, headers?: Record<string, string>) => Sent;
const sending =
  (method: string): Sending =>
  (path, as, headers = {}) => [method, path, { ...(as === undefined ? {} : { as }), headers }];
const get = sending("GET");
const remove = sending("DELETE");
const withBody =
  (method: string) =>
  (path: string, as: string | undefined, body: object, headers: Record<string, string> = {}): Sent => {
    const raw = body instanceof Uint8Array || body instanceof ReadableStream ? { raw: body } : { json: body };
    return [
      method,
      path,
      { ...(as === undefined ? {} : { as }), ...raw, headers: { ...JSON_TYPE, ...headers } },
    ];
  };
const post = withBody("POST");
const put = withBody("PUT");

const KEY = "a/b 100% %2F %25 😀";
const ITEM = `/data/${encodeURIComponent(KEY)}`;
const JSON_TYPE = { "content-type": "application/json" };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const stream = (text: string): ReadableStream => new Blob([text]).stream();
const keyOf = ({ keys }: World, index: number) => keys[index] ?? { id: "key_missing", text: "lk_missing" };
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** In this order: later rows live on what earlier ones have made. */
const table: readonly Row[] = [
  row("users-me", 200, "the signed-in user", (w) => get("/users/me", w.admin)),
  row("users-me", 200, "a token signed with ES256", (w) => get("/users/me", w.es256)),
  row("users-me", 401, "no credential", () => get("/users/me")),
  row("users-me", 401, "a token that nobody signed", () => get("/users/me", "e30.e30.e30")),
  row("users-me", 401, "a token of a key that is not ours", (w) => get("/users/me", w.forged)),
  row("users-me", 401, "an expired token", (w) => get("/users/me", w.expired)),
  row("users-me", 401, "no Bearer", () => get("/users/me", undefined, { authorization: "Basic YTpi" })),
  row("users-me", 400, "a query that it does not take", (w) => get("/users/me?a=b", w.admin)),

  row("data-create", 201, "a key with a slash, percent signs and an emoji", (w) =>
    post("/data", w.admin, { key: KEY, value: { "hällo 😀": [1.5, null, "\ud800"] }, metadata: { a: "é" } }),
  ),
  row("data-create", 201, "an item with a ttl, its key in the query", (w) =>
    post("/data?key=a+b%26c", w.user, { value: null, ttl: 3600 }),
  ),
  row("data-create", 201, "a key that looks encoded, in a body of unknown length", (w) =>
    post("/data", w.user, stream('{"key":"c%2Fd","value":true}')),
  ),
  row("data-create", 409, "a key that is taken", (w) => post("/data", w.admin, { key: KEY, value: 1 })),
  row("data-create", 401, "no credential", () => post("/data", undefined, { key: "x", value: 1 })),
  row("data-create", 422, "no value, and fields that nobody knows", (w) =>
    post("/data", w.admin, bytes('{"key":"x","~/":1,"__proto__":2,"\\ud800":3}')),
  ),
  row("data-create", 422, "a key that no URL can hold", (w) =>
    post("/data", w.admin, { key: "..", value: 1 }),
  ),
  row("data-create", 400, "a body that is not UTF-8", (w) =>
    post("/data", w.admin, Uint8Array.of(0x22, 0xc3, 0x28, 0xff, 0x00, 0x22)),
  ),
  row("data-create", 400, "a body that is not JSON", (w) => post("/data", w.admin, bytes("{"))),
  row("data-create", 400, "an empty body", (w) => post("/data", w.admin, bytes(""))),
  row("data-create", 400, "a number that a double cannot hold", (w) =>
    post("/data", w.admin, bytes('{"key":"x","value":9007199254740993}')),
  ),
  row("data-create", 400, "JSON nested thousands of levels deep", (w) =>
    post("/data", w.admin, bytes("[".repeat(15_000) + "]".repeat(15_000))),
  ),
  row("data-create", 400, "a parameter twice", (w) => post("/data?key=a&key=b", w.admin, { value: 1 })),
  row("data-create", 413, "a value that is too large", (w) =>
    post("/data", w.admin, { key: "x", value: "é".repeat(MAX_VALUE_BYTES / 2) }),
  ),
  row("data-create", 413, "a body that is too large and says so", (w) =>
    post("/data", w.admin, bytes("x".repeat(TOO_LONG))),
  ),
  row("data-create", 413, "a body that is too large and does not say so", (w) =>
    post("/data", w.admin, stream("x".repeat(TOO_LONG))),
  ),
  row("data-create", 415, "a body of another type", (w) =>
    post("/data", w.admin, {}, { "content-type": "text/plain" }),
  ),
  row("data-create", 415, "a compressed body", (w) =>
    post("/data", w.admin, {}, { "content-encoding": "gzip" }),
  ),

  row("data-get", 200, "the item by its encoded key", (w) => get(ITEM, w.user)),
  row("data-get", 200, "the item's head", (w) => ["HEAD", ITEM, { as: w.user }]),
  row("data-get", 304, "a revision that the caller has", (w) =>
    get(ITEM, w.user, { "if-none-match": `"0", W/${w.etag}` }),
  ),
  row("data-get", 200, "a request with a trace from behind a proxy", (w) =>
    get("/data/c%252Fd", w.user, { traceparent: TRACE, "x-forwarded-for": "10.0.0.1, 192.0.2.7" }),
  ),
  row("data-get", 404, "a key encoded once too little", (w) => get("/data/c%2Fd", w.user)),
  row("data-get", 404, "another tenant's item", (w) => get(ITEM, w.stranger)),
  row("data-get", 401, "no credential", () => get(ITEM)),
  row("data-get", 400, "a path that is not UTF-8", (w) => get("/data/%C3%28", w.user)),
  row("data-get", 422, "a key with a control character", (w) => get("/data/%00", w.user)),
  row("data-get", 422, "If-None-Match without tags", (w) => get(ITEM, w.user, { "if-none-match": "tag" })),

  row("data-update", 200, "a new value", (w) => put(ITEM, w.user, { value: 2, ttl: 60 })),
  row("data-update", 200, "If-Match with the revision that is there", (w) =>
    put(ITEM, w.user, { value: 3 }, { "if-match": w.etag }),
  ),
  row("data-update", 412, "If-Match with another revision", (w) =>
    put(ITEM, w.user, { value: 4 }, { "if-match": '"1"' }),
  ),
  row("data-update", 401, "no credential", () => put(ITEM, undefined, { value: 4 })),
  row("data-update", 404, "a missing item", (w) => put("/data/missing", w.user, { value: 4 })),
  row("data-update", 422, "a ttl of no time", (w) => put(ITEM, w.user, { value: 4, ttl: 0 })),

  row("data-delete", 400, "a body", (w) => withBody("DELETE")(ITEM, w.user, {})),
  row("data-delete", 400, "a body of unknown length", (w) => withBody("DELETE")(ITEM, w.user, stream("{}"))),
  row("data-delete", 412, "If-Match with another revision", (w) =>
    remove(ITEM, w.user, { "if-match": '"1"' }),
  ),
  row("data-delete", 204, "the item", (w) => remove(ITEM, w.user)),
  row("data-delete", 404, "an item that is gone", (w) => remove(ITEM, w.user)),
  row("data-delete", 401, "no credential", () => remove(ITEM)),

  row("api-keys-create", 201, "a key with the usual scopes", (w) => post("/api-keys", w.user, { name: "a" })),
  row("api-keys-create", 201, "a key that only reads, for a while", (w) =>
    post("/api-keys", w.admin, {
      ...{ name: "reader 😀", scopes: ["data:read"] },
      expires_at: "2126-01-01T00:00:00+02:00",
    }),
  ),
  row("api-keys-create", 201, "a key that will be deleted", (w) =>
    post("/api-keys", w.admin, { name: "short-lived", scopes: ["audit:read"] }),
  ),
  row("api-keys-create", 401, "no credential", () => post("/api-keys", undefined, { name: "x" })),
  row("api-keys-create", 403, "an API key that wants another", (w) =>
    post("/api-keys", keyOf(w, 0).text, { name: "x" }),
  ),
  row("api-keys-create", 403, "a scope that the creator does not have", (w) =>
    post("/api-keys", w.user, { name: "x", scopes: ["audit:read"] }),
  ),
  row("api-keys-create", 422, "no name, an unknown scope and a time long gone", (w) =>
    post("/api-keys", w.admin, { scopes: ["root"], expires_at: "2001-01-01T00:00:00Z" }),
  ),

  row("data-create", 201, "an API key", (w) => post("/data", keyOf(w, 0).text, { key: "by-key", value: 1 })),
  row("data-get", 200, "an API key in X-API-Key", (w) =>
    get("/data/by-key", undefined, { "x-api-key": keyOf(w, 1).text }),
  ),
  row("data-get", 400, "two credentials that differ", (w) =>
    get("/data/by-key", w.user, { "x-api-key": keyOf(w, 1).text }),
  ),
  row("data-create", 403, "an API key that only reads", (w) =>
    post("/data", keyOf(w, 1).text, { key: "x", value: 1 }),
  ),
  row("data-delete", 403, "an API key that only reads", (w) => remove("/data/by-key", keyOf(w, 1).text)),
  row("users-me", 403, "an API key where a person is asked for", (w) => get("/users/me", keyOf(w, 0).text)),

  row("api-keys-list", 200, "a first page", (w) => get("/api-keys?limit=2", w.user)),
  row("api-keys-list", 200, "the page that its Link leads to", (w) => get(w.next, w.user)),
  row("api-keys-list", 401, "no credential", () => get("/api-keys")),
  row("api-keys-list", 422, "a limit of nothing", (w) => get("/api-keys?limit=0", w.user)),

  row("api-keys-delete", 404, "another tenant's key", (w) =>
    remove(`/api-keys/${keyOf(w, 2).id}`, w.stranger),
  ),
  row("api-keys-delete", 204, "the key", (w) => remove(`/api-keys/${keyOf(w, 2).id}`, w.user)),
  row("api-keys-delete", 404, "the key once more", (w) => remove(`/api-keys/${keyOf(w, 2).id}`, w.user)),
  row("api-keys-delete", 401, "no credential", (w) => remove(`/api-keys/${keyOf(w, 2).id}`)),
  row("api-keys-delete", 422, "what cannot be a key's id", (w) => remove("/api-keys/1", w.user)),

  row("audit-list", 401, "an API key that was deleted", (w) => get("/audit", keyOf(w, 2).text)),
  row("audit-list", 401, "an API key with its last character changed", (w) =>
    get(
      "/audit",
      keyOf(w, 0).text.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
    ),
  ),
  row("audit-list", 401, "no credential", () => get("/audit")),
  row("audit-list", 403, "a user who may not see it", (w) => get("/audit", w.user)),
  row("audit-list", 422, "an action and a time that do not exist", (w) =>
    get("/audit?action=nothing&from=yesterday", w.admin),
  ),
  row("audit-list", 200, "a first page of what was denied", (w) =>
    get("/audit?outcome=denied&limit=2", w.admin),
  ),
  row("audit-list", 200, "the page that its Link leads to", (w) => get(w.next, w.admin)),
  row("audit-list", 200, "what happened to one item", (w) =>
    get(`/audit?key=${encodeURIComponent(KEY)}`, w.admin),
  ),

  row("any path", 404, "a path that does not exist", (w) => get("/nothing/here", w.admin)),
  row("any path", 404, "two segments where a key is one", (w) => get("/data/a/b", w.admin)),
  row("any path", 405, "a method that does not exist", (w) => ["PATCH", "/data/a", { as: w.admin }]),
  row("any path", 405, "that method without a credential", () => ["PATCH", "/data/a", {}]),
  row("any path", 204, "which methods there are", () => ["OPTIONS", "/data/a", {}]),
];

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
    await Promise.all([live("inWorker", sendToWorker), live("inNode", sendToNode)]);
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
    ["workerd", "Node", sendToWorker, sendToNode],
    ["Node", "workerd", sendToNode, sendToWorker],
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
    const creators = Array.from({ length: 20 }, (_, index) => (index % 2 ? sendToWorker : sendToNode));
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
    run = createRunScript(away.redis, () => undefined);
    try {
      const [inWorker, inNode] = await Promise.all([
        sendToWorker("GET", "/data/a", request),
        away.send("GET", "/data/a", request),
      ]);
      expect(inWorker.status).toBe(503);
      expect(inWorker.headers.get("retry-after")).toBe("1");
      expect(comparer()(inWorker)).toEqual(comparer()(inNode));
    } finally {
      run = runScript;
      away.redis.disconnect();
    }
    expect((await sendToWorker("GET", "/data/a", request)).status).toBe(404);
  });

  test("500 with a fixed text for an error that nobody foresaw", async () => {
    const { user, keys } = await node.tenant();
    await redis.set(keys.item("odd"), "not what an item looks like");
    const request = { as: user.token, headers: { "x-request-id": "odd" } };
    const inWorker = await sendToWorker("GET", "/data/odd", request);
    expect(inWorker.body).toEqual({
      type: "urn:latchkey:problem:internal_error",
      title: "Something went wrong on our side",
      status: 500,
      instance: "/data/odd",
      code: "internal_error",
      request_id: "odd",
    });
    expect(comparer()(inWorker)).toEqual(comparer()(await sendToNode("GET", "/data/odd", request)));
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

/** A body of unknown length is told by a header, which Node's HTTP server passes on and a bare Request lacks. */
function sendToNode(method: string, path: string, send: Send = {}): Promise<Answer> {
  const chunked = send.raw instanceof ReadableStream ? { "transfer-encoding": "chunked" } : {};
  return node.send(method, path, { ...send, headers: { ...send.headers, ...chunked } });
}

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

interface Comparable {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** Tenant, key, entry and user ids, key texts and the ends of key texts: random in every run. */
const RANDOM =
  /t-[0-9a-f]{8}-[0-9a-f-]{27}|(?:key|evt|usr)_[0-9A-Za-z]{16}|lk_test_[0-9A-Za-z]{54}_[0-9A-Za-z]{6}|…[0-9A-Za-z]{4}/g;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
/** Milliseconds around now: a time inside is one of this run, any other is what a row says it is. */
const TODAY = 24 * 3600 * 1000;
/** How long a body is said to be is the HTTP server's business. */
const TRANSPORT = ["content-length", "transfer-encoding"];

/** Makes answers of two runtimes comparable: what is random is numbered in order of appearance. */
function comparer() {
  const names = new Map<string, string>();
  const nameOf = (found: string): string => {
    const name = names.get(found) ?? `#${names.size + 1}`;
    names.set(found, name);
    return name;
  };
  const withoutNow = (time: string) => (Math.abs(Date.parse(time) - Date.now()) < TODAY ? "<now>" : time);
  const text = (original: string): string => original.replaceAll(RANDOM, nameOf).replaceAll(TIME, withoutNow);
  const comparable = ({ status, headers, text: body }: Answer): Comparable => ({
    status,
    headers: Object.fromEntries(
      [...headers].filter(([name]) => !TRANSPORT.includes(name)).map(([name, value]) => [name, text(value)]),
    ),
    text: text(body),
  });
  return Object.assign(comparable, { text });
}
