/** JSON as callers send it: what is accepted comes back as the same document, in double precision. */

/** Deep enough for any document people write, shallow enough for every recursive walk over it. */
const MAX_DEPTH = 64;

/** Why a text was refused, as a sentence for the caller. */
export class JsonError extends Error {}

/**
 * Parse JSON. Refused besides bad syntax: nesting beyond 64 levels, and numbers that would come back as other ones
 * (9007199254740993, 1e999, 1e-999), which RFC 7493 (I-JSON), 2.2 tells senders to put in strings.
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
  if (typeof value !== "number") return value;
  const written = digitsOf(context?.source ?? "");
  const overflows = !Number.isFinite(value);
  const underflows = value === 0 && written !== "";
  const otherInteger =
    Number.isInteger(value) && !Number.isSafeInteger(value) && digitsOf(String(value)) !== written;
  if (overflows || underflows || otherInteger) {
    throw new JsonError("A number cannot be kept as it is written; send it as a string.");
  }
  return value;
}

/**
 * The significant digits of a number: equal for 1200, 1.2e3 and 12.0E+2. The look-behind keeps the search for trailing
 * zeros from starting anew at each of 300,000 zeros inside a number.
 */
const digitsOf = (number: string): string =>
  number
    .replace(/[eE].*/, "")
    .replaceAll(/[-.]/g, "")
    .replace(/^0+/, "")
    .replace(/(?<!0)0+$/, "");
