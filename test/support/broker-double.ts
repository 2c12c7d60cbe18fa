/**
 * A Knative MT channel broker with one Trigger, in this process: what its ingress takes and answers, what its channel
 * delivers again, and what reaches the dead letter sink. From knative/eventing 1.22: pkg/broker/ingress,
 * pkg/broker/filter, pkg/kncloudevents/{event_dispatcher,retries}.go. An event in a consumer's answer is counted, and
 * not published; a consumer's redirect is not followed.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../shared/node/dev/free-port.ts";

export interface BrokerOptions {
  readonly subscriber: string;
  readonly deadLetterSink?: string;
  /** To come back at the same address after `kill`. */
  readonly port?: number;
  /** Answer the producer before the consumer has answered (`messaging.knative.dev/async-handler`). */
  readonly asyncHandler?: boolean;
  /** The Trigger's filter, a prefix of `type`. */
  readonly typePrefix?: string;
  /** Deliveries after the first one, to the subscriber and to the dead letter sink each. */
  readonly retries?: number;
  /** The n-th wait, from 0, is this times 2^n. `Retry-After` plays no part. */
  readonly backoffMs?: number;
  /** Of one delivery. */
  readonly timeoutMs?: number;
}

interface StoredEvent {
  readonly attributes: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly body: string;
}

/** What the dead letter sink is told. */
interface DeliveryError {
  readonly code: number;
  readonly data: string;
}
/** Without an error the Broker knows the status, but adds no attributes to the dead letter. */
type Attempt = "delivered" | "killed" | { readonly status: number; readonly error?: DeliveryError };

/** The same for any method but POST, the root, paths other than /<namespace>/<broker>, and events. */
class Refused extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`Refused with ${status}`);
    this.status = status;
  }
}

/** SelectiveRetry of retries.go. */
const isRetried = (status: number): boolean => status >= 500 || [404, 408, 409, 429].includes(status);
const isSuccess = (status: number): boolean => status >= 200 && status < 300;

/** knativeerrordata is base64 of the answer, at most 1,024 characters. */
const MAX_ERROR_DATA = 1_024;
/** With a longer answer the base64 no longer fits, and Go's encoder writes beyond its buffer: a panic in the channel. */
const MAX_ERROR_BODY_BYTES = 768;

export async function startBroker(options: BrokerOptions) {
  const { subscriber, deadLetterSink, asyncHandler = false, typePrefix = "dev.latchkey.audit." } = options;
  const { retries = 5, backoffMs = 2, timeoutMs = 5_000 } = options;
  const counts = {
    /** Events that the ingress took. */
    accepted: 0,
    refused: 0,
    filtered: 0,
    /** Deliveries to the subscriber, the repeated ones included. */
    attempts: 0,
    delivered: 0,
    deadLettered: 0,
    /** Neither delivered nor dead-lettered, or in memory when the broker was killed. */
    lost: 0,
    /** Events in consumers' answers. */
    replies: 0,
    /** Error answers that would crash the real channel. */
    oversizedErrors: 0,
  };
  const life = new AbortController();
  const held = new Set<StoredEvent>();

  async function attempt(target: string, event: StoredEvent): Promise<Attempt> {
    const attributes = Object.entries(event.attributes).map(([name, value]) => [`ce-${name}`, value]);
    const headers = { ...Object.fromEntries(attributes), "content-type": event.contentType, prefer: "reply" };
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const response = await fetch(target, {
        method: "POST",
        headers,
        body: event.body,
        redirect: "manual",
        signal: AbortSignal.any([life.signal, timeout]),
      });
      return judge(response, await response.text());
    } catch (error) {
      if (life.signal.aborted) return "killed";
      // The channel's own timeout: it has no answer of the filter to take the attributes from.
      if (timeout.aborted) return { status: 500 };
      return { status: 500, error: { code: 500, data: errorData(`dispatch error: ${String(error)}`) } };
    }
  }

  function judge({ status, headers }: Response, body: string): Attempt {
    if (!isSuccess(status)) {
      if (Buffer.byteLength(body) > MAX_ERROR_BODY_BYTES) counts.oversizedErrors += 1;
      return { status, error: { code: status, data: errorData(body) } };
    }
    const isEvent =
      headers.has("ce-specversion") || headers.get("content-type")?.startsWith("application/cloudevents");
    if (isEvent) counts.replies += 1;
    return isEvent || body === "" ? "delivered" : { status: 502 };
  }

  async function deliver(target: string, event: StoredEvent): Promise<Attempt> {
    for (let n = 0; ; n += 1) {
      if (target === subscriber) counts.attempts += 1;
      const result = await attempt(target, event);
      if (typeof result === "string" || !isRetried(result.status) || n >= retries) return result;
      await sleep(backoffMs * 2 ** n, undefined, { signal: life.signal }).catch(() => {});
      if (life.signal.aborted) return "killed";
    }
  }

  /** @returns whether the subscriber or the dead letter sink has it */
  async function dispatch(event: StoredEvent): Promise<boolean> {
    const result = await deliver(subscriber, event);
    // `kill` has counted it as lost.
    if (result === "killed") return false;
    if (result === "delivered") counts.delivered += 1;
    else if (deadLetterSink !== undefined) {
      const letter = await deliver(deadLetterSink, withError(event, subscriber, result.error));
      if (letter === "killed") return false;
      counts[letter === "delivered" ? "deadLettered" : "lost"] += 1;
      return letter === "delivered";
    } else counts.lost += 1;
    return result === "delivered";
  }

  async function receive(request: IncomingMessage): Promise<number> {
    const event = await readEvent(request);
    counts.accepted += 1;
    if (!(event.attributes["type"] as string).startsWith(typePrefix)) {
      counts.filtered += 1;
      return 202;
    }
    held.add(event);
    const dispatched = dispatch(event).finally(() => held.delete(event));
    return asyncHandler || (await dispatched) ? 202 : 500;
  }

  const server = createServer((request, response) => {
    const answer = (status: number) => response.writeHead(status, { allow: "POST, OPTIONS" }).end();
    receive(request).then(answer, (error: unknown) => {
      counts.refused += 1;
      answer(error instanceof Refused ? error.status : 500);
    });
  });
  const { port = await freePort() } = options;
  server.listen(port, "127.0.0.1");
  await once(server, "listening");

  return {
    /** K_SINK. */
    url: `http://127.0.0.1:${port}/default/audit`,
    port,
    counts: counts as Readonly<typeof counts>,
    /** Events in memory. */
    holding: () => held.size,
    /** Gone at once, as with kill -9: producers get no answer, events in memory are lost. */
    async kill(): Promise<void> {
      counts.lost += held.size;
      held.clear();
      life.abort();
      const closed = server.listening ? once(server, "close") : undefined;
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function readEvent(request: IncomingMessage): Promise<StoredEvent> {
  const { method, url = "/", headers } = request;
  const body = await text(request);
  if (method === "OPTIONS") throw new Refused(200);
  if (method !== "POST") throw new Refused(405);
  if (url === "/") throw new Refused(404);
  if (!/^\/[^/]+\/[^/]+\/?$/.test(url)) throw new Refused(400);

  const contentType = headers["content-type"] ?? "";
  const isStructured = /^application\/cloudevents\+json\b/i.test(contentType);
  if (!isStructured && /^application\/cloudevents/i.test(contentType)) throw new Refused(400);
  const event = isStructured ? readStructured(body) : { attributes: readBinary(headers), contentType, body };
  const { specversion, id, source, type } = event.attributes;
  if (specversion !== "1.0" || !id || !source || !type) throw new Refused(400);
  if (Object.keys(event.attributes).some((name) => !/^[a-z0-9]+$/.test(name))) throw new Refused(400);
  return { ...event, attributes: { ...event.attributes, knativearrivaltime: new Date().toISOString() } };
}

const readBinary = (headers: IncomingMessage["headers"]): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => name.startsWith("ce-"))
      .map(([name, value]) => [name.slice(3), String(value)]),
  );

/** Delivered in binary mode whatever it came in. */
function readStructured(body: string): StoredEvent {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new Refused(400);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refused(400);
  const { data, datacontenttype = "application/json", ...rest } = value as Record<string, unknown>;
  const attributes = Object.entries(rest).map(([name, attribute]) => [name, String(attribute)]);
  return {
    attributes: Object.fromEntries(attributes),
    contentType: String(datacontenttype),
    body: data === undefined ? "" : JSON.stringify(data),
  };
}

const withError = (event: StoredEvent, destination: string, error?: DeliveryError): StoredEvent => {
  if (error === undefined) return event;
  const knativeerrorcode = String(error.code);
  const added = { knativeerrordest: destination, knativeerrorcode, knativeerrordata: error.data };
  return { ...event, attributes: { ...event.attributes, ...added } };
};

const errorData = (body: string): string => Buffer.from(body).toString("base64").slice(0, MAX_ERROR_DATA);
