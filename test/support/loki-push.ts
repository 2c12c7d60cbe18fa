/** The request of a push to the Loki double: its shape, and what is wrong with a stream's labels. */
import * as z from "zod";

// As in k8s/loki/loki.yaml. Numbers and bytes.
const MAX_LABELS = 15;
const MAX_LABEL_NAME = 1024;
const MAX_LABEL_VALUE = 2048;

/** Answered with this status and the message as text. */
export class LokiRefusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const text = z.string().refine((value) => value.isWellFormed());
const pushRequest = z.object({
  streams: z
    .array(
      z.object({
        stream: z.record(text, text),
        values: z.array(
          z.union([
            z.tuple([z.string().regex(/^\d+$/), text]),
            z.tuple([z.string().regex(/^\d+$/), text, z.record(text, text)]),
          ]),
        ),
      }),
    )
    .default([]),
});

export type PushRequest = z.infer<typeof pushRequest>;

/** The request that a body stands for. @throws {LokiRefusal} */
export function parsePush(body: string): PushRequest {
  if (body === "") throw new LokiRefusal(400, "EOF");
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new LokiRefusal(400, "loghttp.PushRequest.readFieldHash: not JSON");
  }
  const { data, error } = pushRequest.safeParse(json);
  if (data === undefined) {
    throw new LokiRefusal(400, `loghttp.PushRequest.Streams: []loghttp.LogProtoStream: ${error.message}`);
  }
  if (data.streams.length === 0) {
    throw new LokiRefusal(422, "error at least one valid stream is required for ingestion");
  }
  for (const [name, value] of data.streams.flatMap(({ stream }) => Object.entries(stream))) {
    const odd = /^[a-zA-Z_]\w*$/.test(name)
      ? value.includes("\ufffd") && "invalid UTF-8 rune"
      : "unexpected character";
    if (odd !== false) throw new LokiRefusal(400, `couldn't parse labels: parse error: ${odd}`);
  }
  return data;
}

/** Structured metadata as Loki keeps it: without empty values, a space for U+FFFD. */
export const cleaned = (metadata: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(metadata)
      .filter(([, value]) => value !== "")
      .map(([name, value]) => [name, value.replaceAll("\ufffd", " ")] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

export function labelError(name: string, labels: Record<string, string>): string | undefined {
  const pairs = Object.entries(labels);
  if (pairs.length === 0) return "error at least one label pair is required per stream";
  if (pairs.length > MAX_LABELS)
    return `entry for stream '${name}' has ${pairs.length} label names; limit ${MAX_LABELS}`;
  const long = pairs.find(([label]) => bytes(label) > MAX_LABEL_NAME)?.[0];
  if (long !== undefined) return `stream '${name}' has label name too long: '${long}'`;
  const value = pairs.find(([, one]) => bytes(one) > MAX_LABEL_VALUE)?.[1];
  return value === undefined ? undefined : `stream '${name}' has label value too long: '${value}'`;
}

export const nameOf = (labels: Record<string, string>): string =>
  `{${Object.entries(labels)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(", ")}}`;

export const bytes = (value: string): number => Buffer.byteLength(value);
export const sizeOf = (metadata: Readonly<Record<string, string>>): number =>
  Object.entries(metadata).reduce((sum, [name, value]) => sum + bytes(name) + bytes(value), 0);
