/** Key-value items: their schemas, and what a store of them can do. */
import * as z from "zod";
import type { Call } from "./call.ts";
import { type EntityTags, entityTags } from "./etag.ts";
import { byteLength, timestamp } from "./formats.ts";
import { Problem } from "./problems.ts";
import { routeOf } from "./routes.ts";

const MAX_KEY_BYTES = 512;
const MAX_METADATA_BYTES = 16 * 1024;
/** Ten years of 365 days, in seconds. */
const MAX_TTL = 315_360_000;

/**
 * 1 to 512 bytes of UTF-8 without control characters, lone surrogates and line separators. `.` and `..` are refused, also
 * between slashes: every URL parser removes such a path segment, even percent-encoded (WHATWG URL), and proxies that
 * decode %2F before they look (nginx does) see segments there as well, so not everybody could read them.
 */
export const itemKey = z
  .string()
  .min(1)
  .refine((key) => byteLength(key) <= MAX_KEY_BYTES, `Longer than ${MAX_KEY_BYTES} bytes`)
  .refine((key) => !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(key), "Contains a character that cannot be printed")
  .refine((key) => !/(^|\/)\.\.?(\/|$)/.test(key), "Cannot stand in a URL path");

const anyJson = z.custom<unknown>((value) => value !== undefined, "Required");

const metadata = z
  .custom<Record<string, unknown>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "Expected an object",
  )
  .refine(
    (value) => byteLength(JSON.stringify(value)) <= MAX_METADATA_BYTES,
    `Larger than ${MAX_METADATA_BYTES} bytes`,
  );

/** What a caller says about an item's content; `ttl` in seconds, absent: no expiry. */
export const itemContent = z.strictObject({
  value: anyJson,
  ttl: z.int().min(1).max(MAX_TTL).optional(),
  metadata: metadata.default({}),
});

export const item = z.object({
  key: z.string(),
  value: z.unknown(),
  metadata: z.custom<Record<string, unknown>>(),
  /** Seconds, as the caller set it. */
  ttl: z.int().nullable(),
  expires_at: timestamp.nullable(),
  /** 1 when created, one more with every update. */
  version: z.int().positive(),
  created_at: timestamp,
  updated_at: timestamp,
});

/** Content ready to store: JSON texts, so that sizes are known and nothing is serialized twice. */
export interface ItemContent {
  readonly value: string;
  readonly metadata: string;
  readonly ttl: number | null;
}

export interface StoredItem {
  readonly item: z.infer<typeof item>;
  /** Changes with every write of the item and is never used again, not even after a delete. */
  readonly revision: string;
}

/** What an item must be, or not be, for a change to happen (RFC 9110, 13.1). */
export interface Preconditions {
  readonly ifMatch?: EntityTags | undefined;
  readonly ifNoneMatch?: EntityTags | undefined;
}

/** Headers of a request that changes an item. */
export const preconditionHeaders = z.object({
  "if-match": entityTags.optional(),
  "if-none-match": entityTags.optional(),
});

export const preconditionsOf = (headers: z.infer<typeof preconditionHeaders>): Preconditions => ({
  ifMatch: headers["if-match"],
  ifNoneMatch: headers["if-none-match"],
});

/** Every method is one atomic step that authenticates, authorizes, acts and writes the audit entry. */
export interface ItemStore {
  /** @throws {Problem} already_exists */
  create(call: Call, key: string, content: ItemContent): Promise<StoredItem>;
  /** @throws {Problem} not_found */
  get(call: Call, key: string): Promise<StoredItem>;
  /** @throws {Problem} not_found, precondition_failed */
  update(call: Call, key: string, content: ItemContent, preconditions: Preconditions): Promise<StoredItem>;
  /** @throws {Problem} not_found, precondition_failed */
  delete(call: Call, key: string, preconditions: Preconditions): Promise<void>;
}

/** @throws {Problem} payload_too_large when the value's JSON text is longer than `maxValueBytes`. */
export function contentOf(body: z.infer<typeof itemContent>, maxValueBytes: number): ItemContent {
  const value = JSON.stringify(body.value);
  if (byteLength(value) > maxValueBytes) {
    throw new Problem("payload_too_large", {
      detail: `The value is larger than ${maxValueBytes} bytes of JSON.`,
    });
  }
  return { value, metadata: JSON.stringify(body.metadata), ttl: body.ttl ?? null };
}

/** Where an item is found: its key as one percent-encoded path segment. */
export const itemLocation = (key: string): string =>
  routeOf("data-get").path.replace("{key}", encodeURIComponent(key));
