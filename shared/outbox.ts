/** The outboxes as the functions of the audit pipeline see them. */
import type { AuditEntry } from "./audit.ts";

export interface Outbox {
  /** Whether this is a tenant of ours: whatever else a tenant id claims to be, it never becomes a header. */
  hasTenant(tenantId: string): Promise<boolean>;
  /** Take entries out, because Loki has them. Those that are gone already are passed over. */
  remove(tenantId: string, entries: readonly AuditEntry[]): Promise<void>;
  /**
   * Take an entry out that Loki will never take, and keep it with the reason.
   * @returns false when it is not in the outbox, and so is not kept either
   */
  quarantine(tenantId: string, entry: AuditEntry, reason: string): Promise<boolean>;
  /** Entries of all tenants from before a time (ms), oldest first of each tenant, `limit` at most. */
  overdue(before: number, limit: number): Promise<AuditEntry[]>;
  /** The oldest entries of one tenant. */
  ofTenant(tenantId: string, limit: number): Promise<AuditEntry[]>;
}
