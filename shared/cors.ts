/**
 * CORS (https://fetch.spec.whatwg.org/#http-cors-protocol): which web pages may call the API. Credentials are in headers
 * that a page sets itself, never in cookies, so `Access-Control-Allow-Credentials` is not needed, and `*` gives nothing away.
 */
import type { MiddlewareHandler } from "hono";
import type { FunctionEnv } from "./function.ts";

/** What callers send and a page may not send unasked. */
const REQUEST_HEADERS = [
  "Authorization",
  "Content-Type",
  "If-Match",
  "If-None-Match",
  "X-API-Key",
  "X-Request-Id",
  "traceparent",
];
/** What a page may not read unasked. */
const RESPONSE_HEADERS = ["ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id"];
/** Seconds for which a browser need not ask again; none keeps it for longer. */
const MAX_AGE = 7_200;

export function createCors(origins: readonly string[]): MiddlewareHandler<FunctionEnv> {
  const isForAll = origins.includes("*");
  return async function cors(c, next) {
    await next();
    // Caches must not give one origin's answer to another.
    if (!isForAll) c.header("Vary", "Origin", { append: true });
    const origin = c.req.header("origin");
    if (origin === undefined || !(isForAll || origins.includes(origin))) return;
    c.header("Access-Control-Allow-Origin", isForAll ? "*" : origin);
    c.header("Access-Control-Expose-Headers", RESPONSE_HEADERS.join(", "));
    const isPreflight =
      c.req.method === "OPTIONS" && c.req.header("access-control-request-method") !== undefined;
    if (!isPreflight) return;
    c.header("Access-Control-Allow-Methods", c.res.headers.get("allow") ?? "");
    c.header("Access-Control-Allow-Headers", REQUEST_HEADERS.join(", "));
    c.header("Access-Control-Max-Age", String(MAX_AGE));
  };
}
