/** The requests that are sent to workerd and to Node alike. */
import type { RouteId } from "../../shared/routes.ts";
import type { Send, TestTenant } from "./harness.ts";

/** Small, so that a value which is too large is a small request. */
export const MAX_VALUE_BYTES = 1_000;
/**
 * More than the largest body that is read: the value and 32 KiB around it. Only for rows with a credential: without one
 * workerd answers at once, and Miniflare's connection may be reset before such a body has been sent.
 */
const TOO_LONG = 40_000;
/** What a row can refer to: its tenant's people, and what earlier answers brought. */
export interface World {
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

export const KEY = "a/b 100% %2F %25 😀";
export const ITEM = `/data/${encodeURIComponent(KEY)}`;
export const JSON_TYPE = { "content-type": "application/json" };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const stream = (text: string): ReadableStream => new Blob([text]).stream();
const keyOf = ({ keys }: World, index: number) => keys[index] ?? { id: "key_missing", text: "lk_missing" };
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** In this order: later rows live on what earlier ones have made. */
export const table: readonly Row[] = [
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

  row("audit-verify", 200, "the trail is whole", (w) => get("/audit/integrity", w.admin)),
  row("audit-verify", 403, "a user who may not ask for that", (w) => get("/audit/integrity", w.user)),
  row("audit-verify", 401, "no credential", () => get("/audit/integrity")),

  row("audit-relay", 202, "what waits is to go out", (w) => [
    "POST",
    "/trigger-log-offload",
    { as: w.admin },
  ]),
  row("audit-relay", 403, "a user who may not ask for that", (w) => [
    "POST",
    "/trigger-log-offload",
    { as: w.user },
  ]),
  row("audit-relay", 401, "no credential", () => ["POST", "/trigger-log-offload", {}]),

  row("any path", 404, "a path that does not exist", (w) => get("/nothing/here", w.admin)),
  row("any path", 404, "two segments where a key is one", (w) => get("/data/a/b", w.admin)),
  row("any path", 405, "a method that does not exist", (w) => ["PATCH", "/data/a", { as: w.admin }]),
  row("any path", 405, "that method without a credential", () => ["PATCH", "/data/a", {}]),
  row("any path", 204, "which methods there are", () => ["OPTIONS", "/data/a", {}]),
];
