/** The relay: what is left in the outboxes is published again. */
import type { AuditEntry } from "./audit.ts";
import { isTooLarge } from "./events.ts";
import type { Outbox } from "./outbox.ts";
import { shipLimits } from "./ship-batch.ts";

export interface Relay {
  /**
   * Publish what has waited longer than functions and audit-ship need, for as long as it leaves the outboxes.
   * @returns how many entries were taken
   */
  publishOverdue(): Promise<number>;
  /** Start publishing all that a tenant has waiting, unless that runs. @returns the name under which the log tells of it */
  startFor(tenantId: string): string;
}

/** What entries are handed to: sends them somehow, and tells when it is done. */
interface Publisher {
  publish(entry: AuditEntry): void;
  close(deadlineMs: number): Promise<boolean>;
}

/** Entries that are read and published together: what a publisher holds. */
const MAX_ENTRIES = 10_000;
/** Of one call; the next minute takes the rest. */
const MAX_ROUNDS = 100;
/** Milliseconds that an entry may be under way before it counts as left behind. */
const OVERDUE = 5_000;
/** Milliseconds for one call. */
const DEADLINE = 30_000;
/** Milliseconds after which audit-ship has settled something, if it can. */
const PAUSE = 1_000;

interface Options {
  readonly outbox: Outbox;
  /** A publisher for one call; undefined without a sink, and then everything stays where it is. */
  readonly newPublisher: () => Publisher | undefined;
  readonly onQuarantine: (entry: AuditEntry, reason: string) => void;
  readonly onError: (taskId: string, error: unknown) => void;
}

export function createRelay({ outbox, newPublisher, onQuarantine, onError }: Options): Relay {
  /** What runs for a tenant: asked again meanwhile, there is nothing more to do. */
  const tasks = new Map<string, string>();

  /** What audit-ship can never take would come back from there as a dead letter every minute. */
  async function setAside(entry: AuditEntry): Promise<void> {
    const reason = "it is too large for an event";
    if (await outbox.quarantine(entry.tenant_id, entry, reason)) onQuarantine(entry, reason);
  }

  async function publish(
    entries: readonly AuditEntry[],
    publisher: Publisher,
    deadline: number,
  ): Promise<void> {
    for (const entry of entries) {
      if (isTooLarge(entry)) await setAside(entry);
      else publisher.publish(entry);
    }
    await publisher.close(Math.max(0, deadline - Date.now()));
  }

  /**
   * Round after round of what is oldest: a backlog must be in Loki before newer entries of its streams are an hour ahead of
   * it, and it is refused for that. What an earlier round has published and is still there is on its way, or held up, so
   * no more than one round holds is ever under way. Ends when nothing else is there twice in a row.
   */
  async function publishAll(find: () => Promise<AuditEntry[]>): Promise<number> {
    const deadline = Date.now() + DEADLINE;
    const taken = new Set<string>();
    let isIdle = false;
    for (let round = 0; round < MAX_ROUNDS && Date.now() < deadline; round += 1) {
      const publisher = newPublisher();
      if (publisher === undefined) break;
      const found = await find();
      const entries = firstSpan(found.filter(({ id }) => !taken.has(id)));
      for (const { id } of entries) taken.add(id);
      await publish(entries, publisher, deadline);
      if (found.length === 0 || (entries.length === 0 && isIdle)) break;
      isIdle = entries.length === 0;
      if (isIdle) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    return taken.size;
  }

  return {
    publishOverdue: () => publishAll(() => outbox.overdue(Date.now() - OVERDUE, MAX_ENTRIES)),
    startFor(tenantId) {
      const running = tasks.get(tenantId);
      if (running !== undefined) return running;
      const taskId = `task_${crypto.randomUUID()}`;
      tasks.set(tenantId, taskId);
      // What is written meanwhile is published by whoever writes it. Clocks may differ by this much.
      const before = Date.now() + OVERDUE;
      publishAll(() => outbox.ofTenant(tenantId, before, MAX_ENTRIES))
        .catch((error) => onError(taskId, error))
        .finally(() => tasks.delete(tenantId));
      return taskId;
    },
  };
}

/** Of each tenant the oldest, as far as audit-ship takes them without looking for older ones. */
function firstSpan(entries: readonly AuditEntry[]): AuditEntry[] {
  const ends = new Map<string, number>();
  return entries.filter(({ tenant_id, timestamp }) => {
    const at = Date.parse(timestamp);
    const end = ends.get(tenant_id) ?? at + shipLimits.leadMs;
    ends.set(tenant_id, end);
    return at <= end;
  });
}
