/** One Hono application over any number of functions: one in a pod, all of them in a local run. */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { randomBase62 } from "./formats.ts";
import type { FunctionEnv, Gate, LatchkeyFunction, Services } from "./function.ts";
import { Problem } from "./problems.ts";
import { allowedMethods } from "./routes.ts";

const REQUEST_ID = /^[\w-]{1,128}$/;

interface Surroundings {
  /** Runs around every request, for logs and metrics. */
  readonly observe?: MiddlewareHandler<FunctionEnv>;
  /** An application with routes of its own, which are neither observed nor part of the API. */
  readonly app?: Hono<FunctionEnv>;
}

export function createApp(
  functions: readonly LatchkeyFunction[],
  services: Services,
  gate: Gate,
  { observe, app = new Hono<FunctionEnv>() }: Surroundings = {},
): Hono<FunctionEnv> {
  app.use(async (c, next) => {
    const sent = c.req.header("x-request-id");
    c.set("requestId", sent !== undefined && REQUEST_ID.test(sent) ? sent : randomBase62(22));
    await next();
  });
  if (observe !== undefined) app.use(observe);

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
    problem.toResponse(new URL(c.req.url).pathname, c.get("requestId"));
  app.notFound((c) => answer(c, new Problem("not_found")));
  app.onError((error, c) =>
    answer(c, error instanceof Problem ? error : new Problem("internal_error", { cause: error })),
  );
  return app;
}

const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");
