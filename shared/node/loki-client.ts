/** Loki's HTTP API: push a batch, read a range. Connections are kept alive by fetch's pool, one per request in flight. */
import { promisify } from "node:util";
import * as z from "zod";
import { Problem } from "../problems.ts";

/** Milliseconds for one request, its answer read. Loki answers a push of 1 MB in tens of milliseconds. */
const DEFAULT_TIMEOUT = 10_000;
/** Bytes of an answer to a push that are read: its reason, which repeats itself per entry. */
const MAX_REASON_BYTES = 16 * 1024;
/** Bytes of an answer to a query: 5,000 entries of an audit trail have about 5 MB, statistics included. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface PushAnswer {
  /** Only 204 means stored. */
  readonly status: number;
  /** Loki's reason, in its own words. Empty for 204. */
  readonly text: string;
  /** What a proxy in front of Loki asks for. */
  readonly retryAfterMs?: number;
}

export interface RangeQuery {
  /** LogQL. */
  readonly query: string;
  /** Nanoseconds since 1970 in decimal; inclusive. */
  readonly start: string;
  /** Nanoseconds since 1970 in decimal; exclusive. */
  readonly end: string;
  readonly limit: number;
  /** `backward`: newest first. */
  readonly direction: "forward" | "backward";
}

export interface LokiLine {
  /** Nanoseconds since 1970 in decimal. */
  readonly ns: string;
  readonly line: string;
}

export interface LokiClient {
  /** @param body JSON text of a push  @throws when no answer came: whether it is stored is not known then */
  push(tenantId: string, body: string): Promise<PushAnswer>;
  /** Lines of all streams in the order of `direction`. @throws {Problem} store_unavailable for every failure */
  queryRange(tenantId: string, query: RangeQuery): Promise<LokiLine[]>;
}

/** Streams of a `categorize-labels` answer; the third member of a value holds its metadata, which the line repeats. */
const rangeAnswer = z.object({
  status: z.literal("success"),
  data: z.object({
    resultType: z.literal("streams"),
    result: z.array(
      z.object({ values: z.array(z.tuple([z.string().regex(/^\d+$/), z.string()], z.unknown())) }),
    ),
  }),
});

interface Options {
  /** Base of the API, without credentials, such as `http://loki:3100`. */
  readonly url: string;
  /** Milliseconds. */
  readonly timeoutMs?: number;
}

/** @param url validated here, so that a wrong one fails at the start and not at the first push */
export function createLokiClient({ url, timeoutMs = DEFAULT_TIMEOUT }: Options): LokiClient {
  // Loaded where there is a Loki: it takes a function's start some milliseconds.
  const compress = promisify(process.getBuiltinModule("node:zlib").gzip);
  const base = url.replace(/\/+$/, "");
  const pushUrl = new URL(`${base}/loki/api/v1/push`);
  const rangeUrl = new URL(`${base}/loki/api/v1/query_range`);

  async function ask(tenantId: string, { search, maxBytes, ...init }: Ask): Promise<PushAnswer> {
    const target = search === undefined ? pushUrl : new URL(`?${search}`, rangeUrl);
    const response = await fetch(target, {
      ...init,
      headers: { ...init.headers, "X-Scope-OrgID": tenantId },
      redirect: "manual",
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await readAtMost(response, maxBytes);
    const { status, headers } = response;
    return { status, text, ...retryAfterOf(headers) };
  }

  return {
    async push(tenantId, body) {
      // Level 1: audit entries shrink eightfold, at a fraction of the CPU of the default level.
      const compressed = await compress(body, { level: 1 });
      return ask(tenantId, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Content-Encoding": "gzip" },
        body: compressed,
        maxBytes: MAX_REASON_BYTES,
      });
    },

    async queryRange(tenantId, { query, start, end, limit, direction }) {
      const search = new URLSearchParams({ query, start, end, limit: String(limit), direction });
      const headers = { "X-Loki-Response-Encoding-Flags": "categorize-labels" };
      const answer = await ask(tenantId, { search, headers, maxBytes: MAX_ANSWER_BYTES }).catch((cause) => {
        throw new Problem("store_unavailable", { cause });
      });
      if (answer.status !== 200) throw unavailable(`Loki answered ${answer.status}: ${answer.text}`);
      const newestFirst = direction === "backward" ? -1 : 1;
      return parseLines(answer.text).sort((a, b) => newestFirst * compareNs(a.ns, b.ns));
    },
  };
}

interface Ask {
  readonly method?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Of a query; a push has none. */
  readonly search?: URLSearchParams;
  readonly maxBytes: number;
}

function parseLines(text: string): LokiLine[] {
  const parsed = rangeAnswer.safeParse(parseJson(text));
  if (!parsed.success) throw unavailable(`Loki's answer is not one: ${parsed.error.message}`);
  return parsed.data.data.result.flatMap(({ values }) => values.map(([ns, line]) => ({ ns, line })));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Cut off, or something else than Loki answered; the schema says so.
    return undefined;
  }
}

/** Seconds (RFC 9110, 10.2.3); its other form, a date, is left aside. */
function retryAfterOf(headers: Headers): Pick<PushAnswer, "retryAfterMs"> {
  const seconds = headers.get("retry-after") ?? "";
  return /^\d{1,5}$/.test(seconds) ? { retryAfterMs: Number(seconds) * 1000 } : {};
}

/** The order of decimals of any length. */
const compareNs = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : Number(a > b));

const unavailable = (cause: string): Problem => new Problem("store_unavailable", { cause });

/** The answer's text, cut after about `maxBytes`. */
async function readAtMost(response: Response, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  // Leaving the loop cancels what is left of the body.
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    text += decoder.decode(chunk, { stream: true });
    if (bytes > maxBytes) break;
  }
  return text + decoder.decode();
}
