/**
 * A double of Loki's push and query API, in this process, as a real one with k8s/loki/loki.yaml behaves. test/loki.test.ts
 * runs the same promises against both. Not doubled: limits of a single stream's rate, protobuf, anything over a network.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { LokiStore, type StoreOptions } from "./loki-ingest.ts";
import { isMetricQuery, queryInstant, querySteps } from "./loki-metric-query.ts";
import { LokiRefusal } from "./loki-push.ts";
import { BadQuery, labelValues, queryRange } from "./loki-query.ts";

/** What happens to a push instead of its usual answer. `store`: whether its entries are stored nevertheless. */
type Fault = { readonly store?: boolean } & (
  | { readonly do: "answer"; readonly status: number; readonly text?: string }
  /** No answer until the connection ends. */
  | { readonly do: "hang" }
  /** The connection ends without an answer. */
  | { readonly do: "cut" }
);

interface RecordedPush {
  readonly tenant: string;
  readonly status: number;
  readonly entries: number;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export interface LokiDouble {
  readonly url: string;
  readonly kind: "double";
  /** Every push that was answered, oldest first. */
  readonly pushes: readonly RecordedPush[];
  /** What the next pushes meet, of one tenant or of any. */
  failNext(count: number, fault: Fault, tenant?: string): void;
  /** What every push of this tenant meets until `release`. */
  hold(tenant: string, fault?: Fault): void;
  release(tenant: string): void;
  stop(): Promise<void>;
  /** As by kill -9: connections break, nothing is answered. What was answered 204 is kept. */
  kill(): Promise<void>;
  /** Serve again on the same port. */
  restart(): Promise<void>;
}

interface PendingFault {
  readonly fault: Fault;
  readonly tenant: string | undefined;
}

/** @param options what k8s/loki/loki.yaml says where nothing is said */
export async function startDouble(options: Partial<StoreOptions> = {}): Promise<LokiDouble> {
  const { tenants = {}, maxMessageBytes = 32 * 1024 * 1024, now = Date.now } = options;
  const store = new LokiStore({ tenants, maxMessageBytes, now });
  const pushes: RecordedPush[] = [];
  const pending: PendingFault[] = [];
  const held = new Map<string, Fault>();

  const faultFor = (tenant: string): Fault | undefined => {
    const index = pending.findIndex((one) => one.tenant === undefined || one.tenant === tenant);
    return pending.splice(index, index < 0 ? 0 : 1)[0]?.fault ?? held.get(tenant);
  };

  function push(tenant: string, body: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const fault = faultFor(tenant);
    const text = decode(body, request);
    const entries = text.split('["').length - 1;
    let answer: Answer = { status: 204, text: "" };
    try {
      if (fault === undefined || fault.store) store.push(tenant, text);
    } catch (error) {
      answer = refusal(error);
    }
    if (fault?.do === "hang") return;
    if (fault?.do === "cut") return void response.socket?.destroy();
    if (fault !== undefined) answer = { status: fault.status, text: fault.text ?? `fault ${fault.status}\n` };
    pushes.push({ tenant, status: answer.status, entries, at: now() });
    send(response, answer);
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://loki");
    const body = await buffer(request);
    try {
      if (url.pathname === "/ready") return send(response, { status: 200, text: "ready\n" });
      const tenant = tenantOf(request);
      const streams = () => store.streams(tenant);
      const [, label] = /^\/loki\/api\/v1\/label\/(\w+)\/values$/.exec(url.pathname) ?? [];
      if (label !== undefined) return sendData(response, labelValues(streams(), label, url.searchParams));
      switch (url.pathname) {
        case "/loki/api/v1/push":
          return push(tenant, body, request, response);
        case "/loki/api/v1/query_range": {
          if (isMetricQuery(url.searchParams.get("query") ?? "")) {
            return sendData(response, querySteps(streams(), url.searchParams));
          }
          const flags = String(request.headers["x-loki-response-encoding-flags"] ?? "");
          return sendData(
            response,
            queryRange(streams(), url.searchParams, flags.includes("categorize-labels")),
          );
        }
        case "/loki/api/v1/query":
          return sendData(response, queryInstant(streams(), url.searchParams));
        case "/loki/api/v1/delete":
          return send(response, { status: 403, text: "deletion is not available for this tenant\n" });
        case "/flush":
          store.flush();
          return send(response, { status: 204, text: "" });
        default:
          return send(response, { status: 404, text: "404 page not found\n" });
      }
    } catch (error) {
      send(response, refusal(error));
    }
  }

  const port = await freePort();
  let server = await listen(handle, port);
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });

  return {
    url: `http://127.0.0.1:${port}`,
    kind: "double",
    pushes,
    failNext(count, fault, tenant) {
      for (let left = count; left > 0; left -= 1) pending.push({ fault, tenant });
    },
    hold(tenant, fault = { do: "answer", status: 429 }) {
      held.set(tenant, fault);
    },
    release: (tenant) => void held.delete(tenant),
    stop: close,
    kill: close,
    async restart() {
      if (server.listening) await close();
      server = await listen(handle, port);
    },
  };
}

function listen(
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  port: number,
): Promise<Server> {
  const server = createServer((request, response) => {
    // A connection that broke while its body was read.
    handle(request, response).catch(() => response.destroy());
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", () => resolve(server));
  });
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function refusal(error: unknown): Answer {
  if (error instanceof LokiRefusal) return { status: error.status, text: `${error.message}\n` };
  if (error instanceof BadQuery) return { status: 400, text: error.message };
  throw error;
}

function send(response: ServerResponse, { status, text }: Answer): void {
  response.writeHead(status, text === "" ? {} : { "Content-Type": "text/plain; charset=utf-8" }).end(text);
}

function sendData(response: ServerResponse, data: object): void {
  response
    .writeHead(200, { "Content-Type": "application/json; charset=UTF-8" })
    .end(JSON.stringify({ status: "success", data }));
}

/** The tenant under which this is stored: what stands before a colon. @throws {LokiRefusal} */
function tenantOf(request: IncomingMessage): string {
  const header = String(request.headers["x-scope-orgid"] ?? "");
  if (header === "") throw new LokiRefusal(401, "no org id");
  if (header.includes("|")) throw new LokiRefusal(400, "multiple org IDs present");
  const [tenant = ""] = header.split(":");
  const odd = /[^\w!\-.*'()]/.exec(tenant)?.[0];
  if (odd !== undefined) {
    throw new LokiRefusal(400, `tenant ID '${tenant}' contains unsupported character '${odd}'`);
  }
  if (tenant === "." || tenant === "..") throw new LokiRefusal(400, "tenant ID is '.' or '..'");
  if (tenant.length > 150) throw new LokiRefusal(400, "tenant ID is too long: max 150 characters");
  return tenant;
}

/** The body as JSON text. @throws {LokiRefusal} */
function decode(body: Buffer, request: IncomingMessage): string {
  const encoding = request.headers["content-encoding"] ?? "";
  if (!/^application\/json\b/.test(request.headers["content-type"] ?? "")) {
    throw new LokiRefusal(400, "snappy: corrupt input");
  }
  if (encoding === "") return body.toString();
  if (encoding !== "gzip") throw new LokiRefusal(400, `Content-Encoding "${encoding}" not supported`);
  try {
    return gunzipSync(body).toString();
  } catch {
    throw new LokiRefusal(400, "unexpected EOF");
  }
}
