/** `defineEventFunction` does for what Knative Eventing calls what `defineFunction` does for what people call. */
import type { Servable, Services } from "./function.ts";
import { readText } from "./request.ts";
import { type EventRouteId, eventRouteOf } from "./routes.ts";

/** Bytes of an event with its entries; ours have 64 KiB at most, a dead letter adds to that. */
const MAX_EVENT_BYTES = 256 * 1024;

export interface Delivery {
  readonly headers: Pick<Headers, "get">;
  /** The body; empty for a tick of a PingSource without data. */
  readonly text: string;
}

/**
 * Define what a function does with a delivery. It is answered 204 with an empty body when the handler returns: anything
 * else would be delivered again (Knative takes a body for an event). A thrown Problem decides what happens then: 429
 * and 5xx are delivered again, other 4xx go to the dead letters.
 */
export function defineEventFunction<Needs extends keyof Services>(
  id: EventRouteId,
  { needs }: { readonly needs: readonly Needs[] },
  handler: (delivery: Delivery, services: Pick<Services, Needs>) => Promise<void>,
): Servable {
  const route = eventRouteOf(id);
  return {
    route,
    needs,
    async handle(c, services) {
      c.set("call", { route });
      await handler({ headers: c.req.raw.headers, text: await readText(c.req, MAX_EVENT_BYTES) }, services);
      return new Response(null, { status: 204, headers: { "X-Request-Id": c.get("requestId") } });
    },
  };
}
