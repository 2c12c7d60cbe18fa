/** The process log: JSON lines on standard output, one per request, with everything that is marked secret left out. */
import { type DestinationStream, type Logger, pino } from "pino";
import type { z } from "zod";
import { environment } from "../config.ts";
import { secretFields } from "../secrets.ts";

/** Fields that are never written, wherever in a log line they stand. */
const redactedFields = (schemas: readonly z.ZodObject[]): string[] => [
  ...new Set([...schemas, environment].flatMap(secretFields)),
];

/** Errors without the properties that libraries hang on them: ioredis keeps whole commands there. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack, cause } = error;
  return { type: name, message, stack, ...(cause === undefined ? {} : { cause: serializeError(cause) }) };
}

/** @param schemas of requests and replies whose marked fields are redacted */
export function createLog(
  level: string,
  schemas: readonly z.ZodObject[],
  destination?: DestinationStream,
): Logger {
  const paths = redactedFields(schemas).flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  const options = { level, base: null, redact: paths, serializers: { err: serializeError } };
  return destination === undefined ? pino(options) : pino(options, destination);
}
