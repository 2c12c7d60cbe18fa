/** Formats that more than one schema uses. Sizes are bounds against hostile input unless a standard is named. */
import * as z from "zod";

/** Tenant ids become the header that separates tenants in Loki: lower case letters, digits and hyphens only. */
export const tenantId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/);

/** RFC 3339, UTC, milliseconds: `2026-01-31T12:00:00.000Z`. */
export const timestamp = z.iso.datetime({ precision: 3 });

/** RFC 3339 as callers write it: any offset, a fraction of any length that fits. Of what is none nothing else is said. */
export const anyTimestamp = z
  .string()
  .max(40, { abort: true })
  .pipe(z.iso.datetime({ offset: true, abort: true }));
export const toTimestamp = (milliseconds: number): string => new Date(milliseconds).toISOString();

/** UTF-8 length of a string in bytes. */
export const byteLength = (text: string): number => encoder.encode(text).byteLength;
const encoder = new TextEncoder();

/**
 * Up to `max` values of a variable, separated by commas.
 * @param read undefined for what is none  @param expected what whoever wrote anything else is told
 */
export const listOf = <T>(max: number, read: (text: string) => T | undefined, expected: string) =>
  z.string().transform((text, context): readonly T[] => {
    const all = text.split(",", max + 1).map(read);
    const known = all.filter((one) => one !== undefined);
    if (known.length === all.length && known.length <= max) return known;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** `length` uniformly random base62 characters (5.95 bits each). Bytes above 247 are skipped: no modulo bias. */
export function randomBase62(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length + 8))) {
      if (byte < 248 && text.length < length) text += BASE62[byte % 62];
    }
  }
  return text;
}

/** A non-negative integer below 62^length as exactly `length` base62 characters. */
export function toBase62(value: bigint, length: number): string {
  let text = "";
  for (let rest = value; text.length < length; rest /= 62n) text = BASE62[Number(rest % 62n)] + text;
  return text;
}

/** Ids: 16 random base62 characters, 95 bits. */
export const newId = (prefix: "key" | "usr" | "evt"): string => `${prefix}_${randomBase62(16)}`;
export const eventId = z.string().regex(/^evt_[0-9A-Za-z]{16}$/);
export const keyId = z.string().regex(/^key_[0-9A-Za-z]{16}$/);
