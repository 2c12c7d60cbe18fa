/** Reading a request: every part goes through a schema with bounds, and what does not fit becomes a Problem. */
import type { HonoRequest } from "hono";
import type { z } from "zod";
import { JsonError, parseJson } from "./json.ts";
import { type FieldError, type FieldLocation, Problem } from "./problems.ts";

export interface RequestSchema {
  /** Segments of the path template, percent-decoded once. */
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  /** Header names in lower case. */
  readonly headers?: z.ZodObject;
  readonly body?: z.ZodObject;
  /** The body may also be an HTML form (RFC 6749 token requests are). */
  readonly form?: true;
  /** The body holds an item's value, and may be larger by that. */
  readonly holdsValue?: true;
}

type Part<S> = S extends z.ZodType ? z.infer<S> : undefined;
export interface ParsedRequest<S extends RequestSchema> {
  readonly params: Part<S["params"]>;
  readonly query: Part<S["query"]>;
  readonly headers: Part<S["headers"]>;
  readonly body: Part<S["body"]>;
}

/** How many wrong fields one answer lists, and how much of a hostile field name it repeats. */
const MAX_ERRORS = 20;
const MAX_NAME = 64;
/** Bytes of a body that are read after it was refused; then its connection ends. */
const MAX_DISCARDED = 64 * 1024 * 1024;

/** @throws {Problem} malformed_request, payload_too_large, unsupported_media_type, validation_failed */
export async function parseRequest<S extends RequestSchema>(
  request: HonoRequest,
  url: URL,
  path: string,
  schema: S,
  maxBodyBytes: number,
): Promise<ParsedRequest<S>> {
  const errors: FieldError[] = [];
  const check = (
    part: z.ZodObject | undefined,
    input: unknown,
    at: (path: PropertyKey[]) => FieldLocation,
  ): unknown => {
    const parsed = part?.safeParse(input);
    for (const issue of parsed?.error?.issues ?? []) {
      const unknown = issue.code === "unrecognized_keys" ? issue.keys : [];
      if (unknown.length === 0) errors.push({ ...at(issue.path), detail: issue.message });
      for (const key of unknown) errors.push({ ...at([...issue.path, key]), detail: "Unknown field" });
    }
    return parsed?.data;
  };
  const parsed = {
    params: check(schema.params, pathParameters(url.pathname, path), (at) => ({ parameter: name(at) })),
    query: check(schema.query, fieldsOf(url.searchParams), (at) => ({ parameter: name(at) })),
    headers: check(schema.headers, headersOf(request, schema.headers), (at) => ({ header: name(at) })),
    body: check(schema.body, await readBody(request, schema, maxBodyBytes), (at) => ({
      pointer: pointer(at),
    })),
  };
  if (schema.query === undefined && url.search.length > 1) {
    throw new Problem("malformed_request", { detail: "This endpoint takes no query parameters." });
  }
  if (errors.length > 0) throw new Problem("validation_failed", { errors: errors.slice(0, MAX_ERRORS) });
  return parsed as ParsedRequest<S>;
}

const name = (path: PropertyKey[]): string => path.map(String).join(".").slice(0, MAX_NAME);

/** RFC 6901 in its URI fragment form, as RFC 9457 uses it. */
const pointer = (path: PropertyKey[]): string =>
  `#${path.map((step) => `/${String(step).slice(0, MAX_NAME).toWellFormed().replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")}`;

/** Values of the `{name}` segments. Decoded here, once, because routers differ on %2F and %25. */
function pathParameters(pathname: string, template: string): Record<string, string> {
  const segments = pathname.split("/");
  const parameters: Record<string, string> = {};
  for (const [index, part] of template.split("/").entries()) {
    if (!part.startsWith("{")) continue;
    try {
      parameters[part.slice(1, -1)] = decodeURIComponent(segments[index] ?? "");
    } catch {
      throw new Problem("malformed_request", { detail: "The path is not percent-encoded UTF-8." });
    }
  }
  return parameters;
}

function fieldsOf(parameters: URLSearchParams): Record<string, string> {
  const fields = [...parameters];
  if (new Set(fields.map(([name]) => name)).size !== fields.length) {
    throw new Problem("malformed_request", { detail: "A parameter is given twice." });
  }
  return Object.fromEntries(fields);
}

const headersOf = (
  request: HonoRequest,
  schema: z.ZodObject | undefined,
): Record<string, string | undefined> =>
  Object.fromEntries(Object.keys(schema?.shape ?? {}).map((header) => [header, request.header(header)]));

async function readBody(request: HonoRequest, schema: RequestSchema, maxBytes: number): Promise<unknown> {
  if (schema.body === undefined) {
    if (await hasBody(request))
      throw new Problem("malformed_request", { detail: "This endpoint takes no body." });
    return undefined;
  }
  const read = readerFor(request, schema.form ? Object.keys(schema.body.shape) : undefined);
  return read(await readText(request, maxBytes));
}

/** The body as text. @throws {Problem} malformed_request, payload_too_large */
export async function readText(request: HonoRequest, maxBytes: number): Promise<string> {
  const bytes = await readBytes(request, maxBytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem("malformed_request", { detail: "The body is not UTF-8." });
  }
}

async function hasBody(request: HonoRequest): Promise<boolean> {
  const declared = request.header("content-length");
  if (declared !== undefined) return Number(declared) > 0;
  // Whether a body of unknown length is one shows with its first byte. Only asked where one is likely: looking costs
  // every GET the lazily made Request of the Node server.
  const likely = request.method !== "GET" || request.header("transfer-encoding") !== undefined;
  for await (const chunk of chunksOf(likely ? request.raw.body : null)) {
    if (chunk.byteLength > 0) return true;
  }
  return false;
}

/** @param fields names of a form's fields, when the body may be one */
function readerFor(request: HonoRequest, fields: readonly string[] | undefined): (text: string) => unknown {
  const [type, ...parameters] = (request.header("content-type") ?? "").toLowerCase().split(";");
  const charset = parameters.map((one) => one.trim()).find((one) => one.startsWith("charset="));
  const readable = charset === undefined || /^charset="?utf-8"?$/.test(charset);
  if (readable && request.header("content-encoding") === undefined) {
    if (type?.trim() === "application/json") return readJson;
    if (fields !== undefined && type?.trim() === "application/x-www-form-urlencoded")
      return formReader(fields);
  }
  const accepted = fields ? "application/json or application/x-www-form-urlencoded" : "application/json";
  throw new Problem("unsupported_media_type", {
    detail: `Send ${accepted} in UTF-8, without a content encoding.`,
  });
}

function readJson(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    if (error instanceof JsonError) throw new Problem("malformed_request", { detail: error.message });
    throw error;
  }
}

/** RFC 6749, 3.2: parameters without a value count as omitted, and unknown ones are ignored. */
const formReader =
  (known: readonly string[]) =>
  (text: string): Record<string, string> => {
    const fields = fieldsOf(new URLSearchParams(text));
    return Object.fromEntries(
      Object.entries(fields).filter(([name, value]) => value !== "" && known.includes(name)),
    );
  };

/** The whole body, never more than `maxBytes` of it in memory. @throws {Problem} payload_too_large */
async function readBytes(request: HonoRequest, maxBytes: number): Promise<ArrayBuffer | Uint8Array> {
  const tooLarge = () =>
    new Problem("payload_too_large", { detail: `The body is larger than ${maxBytes} bytes.` });
  const declared = request.header("content-length");
  if (declared !== undefined) {
    // The HTTP parser delivers exactly as many bytes as were declared, so this is a bound.
    if (!(Number(declared) <= maxBytes)) throw tooLarge();
    return request.arrayBuffer().catch(brokenOff);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(request.raw.body)) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return new Blob(chunks as BlobPart[]).arrayBuffer();
}

/** The first bytes of a body and the length of all of it, which is read to its end and not kept. @throws {Problem} */
export async function readStart(
  request: HonoRequest,
  maxBytes: number,
): Promise<{ bytes: Uint8Array; length: number }> {
  const kept: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunksOf(request.raw.body)) {
    if (length < maxBytes) kept.push(chunk.subarray(0, maxBytes - length));
    length += chunk.byteLength;
  }
  return { bytes: new Uint8Array(await new Blob(kept as BlobPart[]).arrayBuffer()), length };
}

/** The chunks of a body. @throws {Problem} malformed_request when the caller goes away before its end */
async function* chunksOf(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  let isOver = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isOver = done;
      if (done) return;
      yield value;
    }
  } catch {
    isOver = true;
    brokenOff();
  } finally {
    if (!isOver) void discard(reader);
  }
}

/**
 * Read on while the answer goes out: with @hono/node-server the next request on the connection waits behind a body that was
 * read in part, and is cut off with it.
 */
async function discard(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  try {
    for (let left = MAX_DISCARDED; left > 0; ) {
      const { done, value } = await reader.read();
      if (done) return;
      left -= value.byteLength;
    }
    await reader.cancel();
  } catch {
    // It broke off, which nobody waits to hear.
  }
}

function brokenOff(): never {
  throw new Problem("malformed_request", { detail: "The body broke off." });
}
