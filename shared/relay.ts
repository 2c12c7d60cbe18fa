/** The relay: what is left in the outboxes is published again. */
import type { AuditEntry } from "./audit.ts";
import { isTooLarge } from "./events.ts";
import type { Outbox } from "./outbox.ts";

export interface Relay {
  /** Publish what has waited longer than functions and audit-ship need. @returns how many entries were taken */
  publishOverdue(): Promise<number>;
  /** Start publishing all that a tenant has waiting. @returns the name under which the log tells of it */
  startFor(tenantId: string): string;
}

/** What entries are handed to: sends them somehow, and tells when it is done. */
interface Publisher {
  publish(entry: AuditEntry): void;
  close(deadlineMs: number): Promise<boolean>;
}

/** Entries that one call publishes at most; the next minute takes the rest. */
const MAX_ENTRIES = 10_000;
/** Milliseconds that an entry may be under way before it counts as left behind. */
const OVERDUE = 5_000;
/** Milliseconds for all POSTs of one call. */
const DEADLINE = 30_000;

interface Options {
  readonly outbox: Outbox;
  /** A publisher for one call; undefined without a sink, and then everything stays where it is. */
  readonly newPublisher: () => Publisher | undefined;
  readonly onQuarantine: (entry: AuditEntry, reason: string) => void;
  readonly onError: (taskId: string, error: unknown) => void;
}

export function createRelay({ outbox, newPublisher, onQuarantine, onError }: Options): Relay {
  /** What audit-ship can never take would come back from there as a dead letter every minute. */
  async function setAside(entry: AuditEntry): Promise<void> {
    const reason = "it is too large for an event";
    if (await outbox.quarantine(entry.tenant_id, entry, reason)) onQuarantine(entry, reason);
  }

  async function publish(find: () => ReturnType<Outbox["overdue"]>): Promise<number> {
    const publisher = newPublisher();
    if (publisher === undefined) return 0;
    const entries = await find();
    for (const entry of entries) {
      if (isTooLarge(entry)) await setAside(entry);
      else publisher.publish(entry);
    }
    await publisher.close(DEADLINE);
    return entries.length;
  }

  return {
    publishOverdue: () => publish(() => outbox.overdue(Date.now() - OVERDUE, MAX_ENTRIES)),
    startFor(tenantId) {
      const taskId = `task_${crypto.randomUUID()}`;
      publish(() => outbox.ofTenant(tenantId, MAX_ENTRIES)).catch((error) => onError(taskId, error));
      return taskId;
    },
  };
}
