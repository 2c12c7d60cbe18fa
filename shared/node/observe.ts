/** What every request leaves in the log and the metrics. */
import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";
import type { FunctionEnv } from "../function.ts";
import { Problem } from "../problems.ts";
import type { Metrics } from "./metrics.ts";

export function createObserver(log: Logger, metrics: Metrics): MiddlewareHandler<FunctionEnv> {
  return async function observe(c, next) {
    const started = performance.now();
    metrics.inFlight.inc();
    try {
      await next();
    } finally {
      metrics.inFlight.dec();
    }
    const seconds = (performance.now() - started) / 1000;
    const call = c.get("call");
    const id = call?.route.id ?? "none";
    const { status } = c.res;
    metrics.requests.inc({ function: id, status });
    metrics.duration.observe({ function: id }, seconds);
    if (c.error !== undefined) metrics.problems.inc({ function: id, code: codeOf(c.error) });
    const line = {
      function: id,
      request_id: c.get("requestId"),
      tenant: call?.tenantId,
      status,
      duration_ms: Math.round(seconds * 1e6) / 1000,
      ...reasonOf(c.error),
    };
    if (status >= 500) log.error(line);
    else log.info(line);
  };
}

const codeOf = (error: Error): string => (error instanceof Problem ? error.code : "internal_error");

/** Why it was not a success: the code that was answered and what was behind it. */
function reasonOf(error: Error | undefined): object {
  if (error === undefined) return {};
  if (!(error instanceof Problem)) return { err: error };
  return { code: error.code, ...(error.cause === undefined ? {} : { reason: error.cause }) };
}
