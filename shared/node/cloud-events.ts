/** Events as HTTP requests, by the CloudEvents package, which needs Node. */
import type { AuditEvent } from "../events.ts";

/** Asked for once: even of what is loaded an import takes 4 us. */
let loading: Promise<typeof import("cloudevents")> | undefined;

/** The HTTP request that carries an event, in binary mode. The package is loaded with the first one: it takes 30 ms. */
export async function encodeEvent({ attributes, data }: AuditEvent) {
  loading ??= import("cloudevents");
  const { CloudEvent, HTTP } = await loading;
  // Text is passed on as it is, so entries are made JSON only once.
  const { headers } = HTTP.binary(new CloudEvent<string>({ ...attributes, data }));
  const texts = Object.entries(headers).map(([name, value]) => [name, String(value)] as const);
  return { headers: Object.fromEntries(texts), body: data };
}
