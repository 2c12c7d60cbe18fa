/** Requests over the network just as they are written: what fetch would refuse or repair goes out as it is. */
import http, { type OutgoingHttpHeaders } from "node:http";
import https from "node:https";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";

export interface Outgoing {
  readonly method: string;
  /** With the query, percent-encoded already. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: string | Uint8Array | ReadableStream | undefined;
}
export interface Incoming {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Milliseconds; a function that has to be woken first takes some of them. */
const TIMEOUT = 30_000;
const MAX_SOCKETS = 64;
/** What an answer collects on its way, and a function says nothing about. */
const OF_THE_WAY = /^(connection|content-length|date|keep-alive|server|transfer-encoding|via|x-envoy-.*)$/i;

/** @param origin such as `http://127.0.0.1:8080` or `https://api.example.com` */
export function createHttpClient(origin: string, { localAddress }: { localAddress?: string } = {}) {
  const { protocol, hostname, port } = new URL(origin);
  const { Agent, request } = protocol === "https:" ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });

  function send({ method, path, headers, body }: Outgoing): Promise<Incoming> {
    // What is refused before its end is on a connection of its own: servers close it (RFC 9110, 15.5.14), nginx without a
    // word. It is not announced as the last, or Node would close it under a body that is still being sent.
    const isSmall = body === undefined || (typeof body === "string" && body.length < 1_000);
    const own = isSmall ? undefined : new Agent({ keepAlive: true });
    return new Promise<Incoming>((resolve, reject) => {
      const all: OutgoingHttpHeaders = Object.fromEntries(headers);
      const from = localAddress === undefined ? {} : { localAddress };
      const outgoing = request({
        agent: own ?? agent,
        hostname,
        port,
        method,
        path,
        headers: all,
        timeout: TIMEOUT,
        ...from,
      });
      outgoing.once("timeout", () => outgoing.destroy(new Error(`no answer to ${method} ${path}`)));
      outgoing.once("response", (response) => {
        // The server may have answered before the body was through, and then closes under the rest of it.
        outgoing.removeListener("error", reject).on("error", () => undefined);
        const status = response.statusCode ?? 0;
        const received = new Headers();
        const raw = response.rawHeaders;
        for (let i = 0; i < raw.length; i += 2) {
          if (!OF_THE_WAY.test(raw[i] ?? "")) received.append(raw[i] ?? "", raw[i + 1] ?? "");
        }
        text(response).then((body) => resolve({ status, headers: received, text: body }), reject);
      });
      outgoing.once("error", reject);
      if (body instanceof ReadableStream) Readable.fromWeb(body as never).pipe(outgoing);
      else outgoing.end(body);
    }).finally(() => own?.destroy());
  }

  return { send, close: () => agent.destroy() };
}
