/** Items whose time is over: each becomes exactly one audit entry. */
import { newId } from "../formats.ts";
import { expiriesKey, itemOf, SHARDS, tenantKeys } from "./keys.ts";
import type { Store } from "./store.ts";

/** Expiries that are read and recorded together. */
const PAGE = 500;
/** Milliseconds for one call; the next one takes the rest. */
const DEADLINE = 30_000;

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
 * @returns how many were recorded
 */
export async function recordExpiries(
  store: Store,
  outboxLimit: number,
  now: number = Date.now(),
): Promise<number> {
  const deadline = performance.now() + DEADLINE;
  // From any shard on, so that what is due in the first ones is not in front for ever.
  const first = Math.floor(Math.random() * SHARDS);
  let recorded = 0;
  for (let i = 0; i < SHARDS; i += 1) {
    const index = expiriesKey((first + i) % SHARDS);
    // What has to stay, because its tenant's outbox is full, stays in front, and is passed over.
    for (let passed = 0, read = PAGE; read === PAGE && performance.now() < deadline; ) {
      const due = await store.ask((redis) =>
        redis.zrangebyscore(index, "-inf", now, "WITHSCORES", "LIMIT", passed, PAGE),
      );
      const done = await recordAll(store, index, due, outboxLimit);
      read = due.length / 2;
      passed += read - done;
      recorded += done;
    }
  }
  return recorded;
}

/** @param due names of items and their expiries, in turn @returns how many were recorded */
async function recordAll({ run }: Store, index: string, due: readonly string[], outboxLimit: number) {
  const answers: Promise<unknown>[] = [];
  for (let i = 0; i + 1 < due.length; i += 2) {
    const [name, expiresAt] = due.slice(i, i + 2) as [string, string];
    const { tag, key } = itemOf(name);
    const { tenant, outbox, pending, backlog } = tenantKeys(tag);
    const keys = [tenant, name, outbox, pending, backlog, index];
    answers.push(run("expire-item", keys, [expiresAt, expiryContext(key), String(outboxLimit)]));
  }
  return (await Promise.all(answers)).filter((answer) => answer === "ok").length;
}
