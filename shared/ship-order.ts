/**
 * Oldest first over an outage too. Loki refuses what is more than an hour behind the newest entry of its stream, so what
 * happens now must not get there while entries from the beginning of an outage still wait in the outbox: it takes them along.
 */
import type { Outbox } from "./outbox.ts";
import { shipLimits } from "./ship-batch.ts";
import type { Shipper } from "./shipper.ts";

const { leadMs } = shipLimits;
/** Older entries that are taken along at once: reading more would cost audit-ship more than pushing them. */
const MAX_OLDER = 1_000;
/** Milliseconds for which one look at what is older serves all deliveries of a tenant. */
const LOOK_EVERY = 1_000;

interface Look {
  /** Whether all that waits for too long is in the shipper now. */
  readonly all: boolean;
  readonly settled: Promise<void>;
}

/**
 * `accept` of a shipper, in order. When more waits than can be taken along, only some of that is shipped and the entries
 * themselves are left: they are in the outbox too, and come again.
 */
export function inOrder(
  accept: Shipper["accept"],
  outbox: Pick<Outbox, "waitingSince" | "ofTenant">,
): Shipper["accept"] {
  const looks = new Map<string, Promise<Look>>();

  async function look(tenantId: string): Promise<Look> {
    const older = await outbox.ofTenant(tenantId, Date.now() - leadMs, MAX_OLDER);
    const settled = accept(tenantId, older);
    // They are refused at once or not for want of room: when they are, nothing newer may get in either.
    await Promise.race([settled, new Promise((resolve) => setTimeout(resolve))]);
    return { all: older.length < MAX_OLDER, settled };
  }

  function takeOlder(tenantId: string): Promise<Look> {
    const taken = look(tenantId);
    looks.set(tenantId, taken);
    taken
      .then(({ all, settled }) => (all ? undefined : settled))
      .catch(() => undefined)
      .finally(() => setTimeout(() => looks.delete(tenantId), LOOK_EVERY));
    return taken;
  }

  return async function acceptInOrder(tenantId, entries) {
    const newest = Math.max(...entries.map(({ timestamp }) => Date.parse(timestamp)));
    if ((await outbox.waitingSince(tenantId, newest - leadMs)) < newest - leadMs) {
      const { all, settled } = await (looks.get(tenantId) ?? takeOlder(tenantId));
      if (!all) return settled;
    }
    return accept(tenantId, entries);
  };
}
