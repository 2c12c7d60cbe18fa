/** JSON as callers send it: what is accepted comes back as the same document, in double precision. */

/** Deep enough for any document people write, shallow enough for every recursive walk over it. */
const MAX_DEPTH = 64;

/** Why a text was refused, as a sentence for the caller. */
export class JsonError extends Error {}

/**
 * Parse JSON. Refused besides bad syntax: nesting beyond 64 levels, and numbers that would come back as other ones
 * (integers beyond 2^53-1, 1e999), which RFC 7493 (I-JSON), 2.2 tells senders to put in strings.
 * @throws {JsonError}
 */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new JsonError("The body is not valid JSON.");
  }
  if (!isShallow(value, MAX_DEPTH))
    throw new JsonError(`The JSON is nested deeper than ${MAX_DEPTH} levels.`);
  // Only a long run of digits or an exponent can be out of range, so ordinary bodies are parsed once.
  if (/\d{16}|\d[eE]/.test(text)) JSON.parse(text, refuseInexactNumbers as Parameters<typeof JSON.parse>[1]);
  return value;
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((child) => isShallow(child, levels - 1));
}

/** A reviver with the source text of primitives (ECMAScript 2026, JSON.parse source text access). */
function refuseInexactNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value === "number") {
    const written = context?.source ?? "";
    const unsafeInteger = /^-?\d+$/.test(written) && !Number.isSafeInteger(value);
    if (!Number.isFinite(value) || unsafeInteger) {
      throw new JsonError("A number is too large to be kept exactly; send it as a string.");
    }
  }
  return value;
}
