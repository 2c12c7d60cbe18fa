/** The audit trail: what an entry looks like, and what it may never contain. */
import * as z from "zod";
import type { IntegrityView } from "./audit-integrity.ts";
import type { Position } from "./audit-pages.ts";
import type { Call } from "./call.ts";
import { anyTimestamp, eventId, timestamp } from "./formats.ts";

/** Closed list. Items are "keys" in action names, as dashboards and queries have known them from the start. */
export const auditActions = [
  "login_success",
  "login_failed",
  "get_user",
  "create_key",
  "get_key",
  "update_key",
  "delete_key",
  "key_expiration",
  "create_api_key",
  "list_api_keys",
  "delete_api_key",
  "list_audit",
  "verify_audit",
  "relay_audit",
] as const;
export type AuditAction = (typeof auditActions)[number];

export const auditOutcomes = ["success", "denied", "failure"] as const;

/**
 * Everything that `details` may hold. Never a password, token, key text or item value: whoever adds a field
 * here adds it to what leaves for the log store.
 */
const details = z.strictObject({
  /** Why it was denied or failed: the internal reason, finer than the public problem code. */
  reason: z.string().optional(),
  /** Version of the item after the operation. */
  version: z.int().optional(),
  /** Seconds. */
  ttl: z.int().optional(),
  /** Name and scopes of an API key. */
  name: z.string().optional(),
  scopes: z.array(z.string()).optional(),
  expires_at: z.string().optional(),
});
export type AuditDetails = z.infer<typeof details>;

/** One entry. `seq` counts 1, 2, 3… per tenant without a gap, so a missing entry can be proven. */
export const auditEntry = z.strictObject({
  id: eventId,
  seq: z.int().positive(),
  timestamp,
  action: z.enum(auditActions),
  tenant_id: z.string(),
  username: z.string(),
  actor: z.strictObject({ type: z.enum(["user", "api_key", "system"]), id: z.string() }),
  outcome: z.enum(auditOutcomes),
  request_id: z.string(),
  traceparent: z.string().optional(),
  source_ip: z.string().optional(),
  target: z.strictObject({ type: z.string(), id: z.string().nullable() }),
  details,
});
export type AuditEntry = z.infer<typeof auditEntry>;

export const auditFilter = z.strictObject({
  action: z.enum(auditActions).optional(),
  /** Id of a user or API key. */
  actor: z.string().min(1).max(128).optional(),
  /** Key of an item or id of an API key. */
  key: z.string().min(1).max(512).optional(),
  outcome: z.enum(auditOutcomes).optional(),
  /** RFC 3339; inclusive. */
  from: anyTimestamp.optional(),
  /** RFC 3339; exclusive. */
  to: anyTimestamp.optional(),
});
export type AuditFilter = z.infer<typeof auditFilter>;

export function matchesFilter(entry: AuditEntry, filter: AuditFilter): boolean {
  const at = Date.parse(entry.timestamp);
  return (
    (filter.action === undefined || entry.action === filter.action) &&
    (filter.actor === undefined || entry.actor.id === filter.actor) &&
    (filter.key === undefined || entry.target.id === filter.key) &&
    (filter.outcome === undefined || entry.outcome === filter.outcome) &&
    (filter.from === undefined || at >= Date.parse(filter.from)) &&
    (filter.to === undefined || at < Date.parse(filter.to))
  );
}

export interface AuditStore {
  /** Whether the caller's trail is whole in a time range. */
  verify(call: Call, range: Pick<AuditFilter, "from" | "to">): Promise<IntegrityView>;
  /** Record that the caller asked for the outbox to be sent. @returns the caller's tenant */
  recordRelay(call: Call): Promise<string>;
  /**
   * Entries of the caller's tenant that match, newest first, from the outbox and from Loki. A call looks at a bounded
   * number of entries, so a page can hold fewer than `limit`, even none, while `next` still leads on.
   * @param before where the page before ended
   */
  list(
    call: Call,
    filter: AuditFilter,
    page: { readonly limit: number; readonly before: Position | undefined },
  ): Promise<{ entries: AuditEntry[]; next: Position | null }>;
}
