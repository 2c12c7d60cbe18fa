/** The process log: JSON lines on standard output, one per request, with everything that is marked secret left out. */
import { type DestinationStream, type Logger, pino } from "pino";
import type { z } from "zod";
import { environment } from "../config.ts";
import { secretFields } from "../secrets.ts";

/** How deep into a line is looked; what lies deeper is left out, secret or not. */
const MAX_DEPTH = 8;

/**
 * A line without the values of secret fields, wherever in it they stand, and with errors reduced to what they are: the
 * properties that libraries hang on them can be anything, such as ioredis's whole command.
 */
function withoutSecrets(value: unknown, secret: ReadonlySet<string>, levels: number): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (levels === 0) return "[too deep]";
  if (Array.isArray(value)) return value.map((one) => withoutSecrets(one, secret, levels - 1));
  const fields = Object.entries(value instanceof Error ? plainError(value) : value).map(([name, inner]) => [
    name,
    secret.has(name) ? "[secret]" : withoutSecrets(inner, secret, levels - 1),
  ]);
  return Object.fromEntries(fields);
}

const plainError = ({ name, message, stack, cause }: Error): object => ({
  type: name,
  message,
  stack,
  ...(cause === undefined ? {} : { cause }),
});

/** @param schemas of requests and replies, whose marked fields are never written */
export function createLog(
  level: string,
  schemas: readonly z.ZodObject[],
  destination?: DestinationStream,
): Logger {
  const secret = new Set([...schemas, environment].flatMap(secretFields));
  const shown = (line: object) => withoutSecrets(line, secret, MAX_DEPTH) as Record<string, unknown>;
  const options = {
    level,
    base: null,
    formatters: { log: shown },
    // What a child logger is bound to does not pass the formatter.
    redact: [...secret].flatMap((field) => [field, `*.${field}`]),
    serializers: { err: shown },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
