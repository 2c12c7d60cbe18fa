/** One Hono application over any number of functions: one in a pod, all of them in a local run. */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { createCors } from "./cors.ts";
import { randomBase62 } from "./formats.ts";
import type { FunctionEnv, Gate, Servable, Services } from "./function.ts";
import { Problem } from "./problems.ts";
import { allowedMethods } from "./routes.ts";

const REQUEST_ID = /^[\w-]{1,128}$/;

/** In place of a URL whose host no URL can have. */
const UNKNOWN_URL = new URL("http://unknown.invalid/");

/**
 * Whether gateways, logs and routes see one and the same path. `/data/../metrics`, `\\metrics` and a Host that is none are
 * refused: the URL has them normalised already, but the request line tells, where the runtime passes it on.
 */
function hasNormalPath(c: Context<FunctionEnv>): boolean {
  const url = c.get("url");
  const target = c.env?.incoming?.url;
  if (url === UNKNOWN_URL || target === undefined) return url !== UNKNOWN_URL;
  // RFC 9112, 3.2.2: a server must take the absolute form too.
  const path = target.replace(/^https?:\/\/[^/?#]*/i, "").split("?", 1)[0];
  return (path || "/") === url.pathname;
}

/** What GET of a path answers that is neither observed nor part of the API. */
export type SystemHandlers = Readonly<Record<string, (c: Context) => Response | Promise<Response>>>;

interface Surroundings {
  /** Runs around every request, for logs and metrics. */
  readonly observe?: MiddlewareHandler<FunctionEnv>;
  readonly system?: SystemHandlers;
  /** Origins of web pages that may call; absent: none. */
  readonly corsOrigins?: readonly string[] | undefined;
}

export function createApp(
  functions: readonly Servable[],
  services: Services,
  gate: Gate,
  { observe, system = {}, corsOrigins }: Surroundings = {},
): Hono<FunctionEnv> {
  const app = new Hono<FunctionEnv>();
  app.use(async (c, next) => {
    const sent = c.req.header("x-request-id");
    c.set("requestId", sent !== undefined && REQUEST_ID.test(sent) ? sent : randomBase62(22));
    c.set("url", URL.parse(c.req.url) ?? UNKNOWN_URL);
    await next();
  });
  app.get("*", async (c, next) => {
    const { pathname } = c.get("url");
    const handler = Object.hasOwn(system, pathname) ? system[pathname] : undefined;
    return handler !== undefined && hasNormalPath(c) ? handler(c) : next();
  });
  if (observe !== undefined) app.use(observe);
  if (corsOrigins !== undefined) app.use(createCors(corsOrigins));
  app.use(async (c, next) => {
    if (!hasNormalPath(c)) {
      throw new Problem("malformed_request", { detail: "The Host or the path is not in its normal form." });
    }
    await next();
  });

  for (const one of functions) {
    app.on(one.route.method, honoPath(one.route.path), (c) => one.handle(c, services, gate));
  }
  for (const path of new Set(functions.map((one) => one.route.path))) {
    const allow = allowedMethods(path).join(", ");
    app.options(honoPath(path), (c) =>
      c.body(null, 204, { Allow: allow, "X-Request-Id": c.get("requestId") }),
    );
    app.all(honoPath(path), () => {
      throw new Problem("method_not_allowed", { headers: { Allow: allow } });
    });
  }
  const answer = (c: Context<FunctionEnv>, problem: Problem) =>
    problem.toResponse(c.get("url")?.pathname ?? "/", c.get("requestId"));
  app.notFound((c) => answer(c, new Problem("not_found")));
  app.onError((error, c) =>
    answer(c, error instanceof Problem ? error : new Problem("internal_error", { cause: error })),
  );
  return app;
}

const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");
