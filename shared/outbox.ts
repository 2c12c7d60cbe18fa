/** The outboxes as the functions of the audit pipeline see them. */
import type { AuditEntry } from "./audit.ts";

export interface Outbox {
  /**
   * The last number that was given out to a tenant, or one before it that is not below `atLeast`: what is remembered
   * need not be asked. @returns undefined for what is no tenant of ours, and must never become a header
   */
  lastSeq(tenantId: string, atLeast: number): Promise<number | undefined>;
  /**
   * A time (ms) from before which no entry of a tenant waits or ever will: when the oldest that waits was written, or one
   * before it that is not below `atLeast`, as what is remembered need not be asked.
   */
  waitingSince(tenantId: string, atLeast: number): Promise<number>;
  /** Take entries out, because Loki has them. Those that are gone already are passed over. */
  remove(tenantId: string, entries: readonly AuditEntry[]): Promise<void>;
  /**
   * Take an entry out that Loki will never take, and keep it with the reason.
   * @returns false when it is not in the outbox, and so is not kept either
   */
  quarantine(tenantId: string, entry: AuditEntry, reason: string): Promise<boolean>;
  /** Entries of all tenants from before a time (ms), oldest first of each tenant, `limit` at most. */
  overdue(before: number, limit: number): Promise<AuditEntry[]>;
  /** The oldest entries of one tenant, from before a time (ms). */
  ofTenant(tenantId: string, before: number, limit: number): Promise<AuditEntry[]>;
}
