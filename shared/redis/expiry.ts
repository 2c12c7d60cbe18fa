/** Items whose time is over: each becomes exactly one audit entry. */
import { newId } from "../formats.ts";
import { expiriesKey, itemOf, SHARDS, tenantKeys } from "./keys.ts";
import type { Store } from "./store.ts";

/** Expiries that one call takes from a shard at most; the next call takes the rest. */
const MAX_PER_SHARD = 500;

/** The part of a `key_expiration` entry that is known before the store decides; the time comes from the index. */
export const expiryContext = (key: string): string => {
  const id = newId("evt");
  return JSON.stringify({
    id,
    action: "key_expiration",
    request_id: id,
    target: { type: "item", id: key },
    details: {},
  });
};

/**
 * Record the expiries that are due. Safe to run several times at once: the script that records one also takes it from
 * the index.
 * @returns how many were recorded, and whether more were left than one call takes
 */
export async function recordExpiries(
  { run, ask }: Store,
  outboxLimit: number,
  now: number = Date.now(),
): Promise<{ recorded: number; more: boolean }> {
  let recorded = 0;
  let more = false;
  for (let shard = 0; shard < SHARDS; shard += 1) {
    const index = expiriesKey(shard);
    const due = await ask((redis) =>
      redis.zrangebyscore(index, "-inf", now, "WITHSCORES", "LIMIT", 0, MAX_PER_SHARD),
    );
    const answers: Promise<unknown>[] = [];
    for (let i = 0; i + 1 < due.length; i += 2) {
      const [name, expiresAt] = due.slice(i, i + 2) as [string, string];
      const { tag, key } = itemOf(name);
      const { tenant, outbox, pending, backlog } = tenantKeys(tag);
      const keys = [tenant, name, outbox, pending, backlog, index];
      answers.push(run("expire-item", keys, [expiresAt, expiryContext(key), String(outboxLimit)]));
    }
    recorded += (await Promise.all(answers)).filter((answer) => answer === "ok").length;
    more ||= due.length === 2 * MAX_PER_SHARD;
  }
  return { recorded, more };
}
