/** `defineEventFunction` does for what Knative Eventing calls what `defineFunction` does for what people call. */
import { MAX_READ_BYTES } from "./events.ts";
import type { Servable, Services } from "./function.ts";
import { readStart, readText } from "./request.ts";
import { type EventRouteId, eventRouteOf } from "./routes.ts";

export interface Delivery {
  readonly headers: Headers;
  /** The body, if it is UTF-8 and not too large. @throws {Problem} which sends the event to the dead letters */
  text(): Promise<string>;
  /** What the body begins with, whatever it is, and its length in bytes. */
  start(maxBytes: number): Promise<{ readonly bytes: Uint8Array; readonly length: number }>;
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
      const delivery: Delivery = {
        headers: c.req.raw.headers,
        text: () => readText(c.req, MAX_READ_BYTES),
        start: (maxBytes) => readStart(c.req, maxBytes),
      };
      await handler(delivery, services);
      return new Response(null, { status: 204, headers: { "X-Request-Id": c.get("requestId") } });
    },
  };
}
