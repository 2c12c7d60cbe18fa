/** The outboxes: what audit entries wait in until Loki has them. */
import { setTimeout as delay } from "node:timers/promises";
import type { AuditEntry } from "../audit.ts";
import type { Outbox } from "../outbox.ts";
import { decodeEntry } from "./audit.ts";
import { backlogKey, pendingKey, SHARDS, seqOf, streamIdOf, tenantKeys, tenantTag } from "./keys.ts";
import type { Store } from "./store.ts";

/** Entries that one script call removes at most. */
const MAX_REMOVED = 1_000;
/** Tenants of a shard that one look at the overdue takes at most; which ones is drawn, so that none can be in front for ever. */
const MAX_TENANTS = 100;
/** Entries of a tenant, the oldest, that it takes at most where there are many tenants; of few it takes an equal share each. */
const FAIR_SHARE = 500;
/** Tenants of a shard whose outboxes are measured: those that have waited longest. */
const MAX_MEASURED = 20;
/** Milliseconds for which those who ask for a tenant's last number wait for one another: little beside audit-ship's linger. */
const LOOK_LINGER = 20;
/** Tenants whose last number is remembered; a tenant is never deleted. */
const MAX_KNOWN = 10_000;

/** Of all tenants together. */
export interface OutboxStats {
  readonly entries: number;
  /** Entries in the longest outbox. */
  readonly largest: number;
  /** Milliseconds since the oldest entry was written. */
  readonly oldestMs: number;
}

/** How a tenant stood at some time: the last number that was given out, and a time (ms) from before which nothing waited. */
interface Seen {
  readonly lastSeq: number;
  readonly since: number;
}

export function createOutbox({ run, ask, watch }: Store) {
  /** Neither goes back, so what was seen once is a bound for ever. */
  const seen = new Map<string, Seen>();
  const looks = new Map<string, Promise<Seen | undefined>>();
  const look = async (tenantId: string): Promise<Seen | undefined> => {
    looks.delete(tenantId);
    const { tenant, pending } = tenantKeys(tenantTag(tenantId));
    const [[id, seq, at], since] = await ask((redis) =>
      Promise.all([redis.hmget(tenant, "id", "seq", "at"), redis.zscore(pending, tenantId)]),
    );
    if (id !== tenantId) return undefined;
    // Where nothing waits: what is still to come is not older than the last entry.
    const now = { lastSeq: Number(seq), since: Number(since ?? at) };
    if (seen.has(tenantId) || seen.size < MAX_KNOWN) seen.set(tenantId, now);
    return now;
  };
  /** What is remembered if it suffices, else a look that is shared by those who come within a moment. */
  const lookUnless = async (tenantId: string, suffices: (known: Seen) => boolean) => {
    const known = seen.get(tenantId);
    if (known !== undefined && suffices(known)) return known;
    const shared = looks.get(tenantId) ?? delay(LOOK_LINGER).then(() => look(tenantId));
    looks.set(tenantId, shared);
    return shared;
  };
  const settling = (tenantId: string) => {
    const { outbox, pending, backlog, quarantine } = tenantKeys(tenantTag(tenantId));
    return { keys: [outbox, pending, backlog], quarantine };
  };

  /** Before any of these is published, replicas must have it: one that a failover loses would give its number to another. */
  async function readOldest(tenantId: string, before: number, count: number): Promise<AuditEntry[]> {
    const { outbox } = tenantKeys(tenantTag(tenantId));
    const rows = await ask((redis) => redis.xrange(outbox, "-", "+", "COUNT", count));
    const entries = rows.flatMap(([id, fields]) => readable(tenantId, id, fields));
    return entries.filter(({ timestamp }) => Date.parse(timestamp) < before);
  }

  /** What another release has written in a form that is not known here is left to that release, and holds up nobody. */
  function readable(...record: Parameters<typeof decodeEntry>): AuditEntry[] {
    try {
      return [decodeEntry(...record)];
    } catch {
      return [];
    }
  }

  const outbox: Outbox = {
    lastSeq: async (tenantId, atLeast) =>
      (await lookUnless(tenantId, ({ lastSeq }) => lastSeq >= atLeast))?.lastSeq,

    waitingSince: async (tenantId, atLeast) =>
      (await lookUnless(tenantId, ({ since }) => since >= atLeast))?.since ?? 0,

    async remove(tenantId, entries) {
      const { keys } = settling(tenantId);
      for (let i = 0; i < entries.length; i += MAX_REMOVED) {
        const ids = entries.slice(i, i + MAX_REMOVED).map(streamIdOf);
        await run("remove-entries", keys, [tenantId, ...ids]);
      }
    },

    async quarantine(tenantId, entry, reason) {
      const { keys, quarantine } = settling(tenantId);
      const kept = JSON.stringify({ entry, reason, at: new Date().toISOString() });
      const args = [tenantId, streamIdOf(entry), kept];
      return (await run("quarantine-entry", [...keys, quarantine], args)) === 1;
    },

    async overdue(before, limit) {
      // From any shard on, so that none of them is in front for ever either.
      const first = Math.floor(Math.random() * SHARDS);
      const shards = Array.from({ length: SHARDS }, (_, i) => pendingKey((first + i) % SHARDS));
      const waiting = await Promise.all(
        shards.map((pending) => ask((redis) => redis.zrandmember(pending, MAX_TENANTS))),
      );
      const share = Math.max(FAIR_SHARE, Math.floor(limit / Math.max(1, waiting.flat().length)));
      const found: AuditEntry[] = [];
      for (const [index, tenants] of waiting.entries()) {
        if (tenants.length === 0) continue;
        const already = found.length;
        const confirm = await watch(shards[index] as string);
        for (const tenantId of tenants) {
          const room = Math.min(share, limit - found.length);
          if (room > 0) found.push(...(await readOldest(tenantId, before, room)));
        }
        if (found.length > already) await confirm();
      }
      return found;
    },

    async ofTenant(tenantId, before, limit) {
      const confirm = await watch(tenantKeys(tenantTag(tenantId)).outbox);
      const found = await readOldest(tenantId, before, limit);
      await confirm();
      return found;
    },
  };

  /** What a tenant has in quarantine, in the order of the sequence numbers: JSON of entry, reason and time each. */
  async function* quarantined(tenantId: string): AsyncGenerator<string> {
    const { quarantine } = tenantKeys(tenantTag(tenantId));
    const ids = (await ask((redis) => redis.hkeys(quarantine))).sort(
      (one, other) => seqOf(one) - seqOf(other),
    );
    for (const id of ids) {
      const kept = await ask((redis) => redis.hget(quarantine, id));
      if (kept !== null) yield kept;
    }
  }

  async function measure(shard: number): Promise<OutboxStats> {
    const [backlog, pending] = await Promise.all([
      ask((redis) => redis.get(backlogKey(shard))),
      ask((redis) => redis.zrange(pendingKey(shard), 0, String(MAX_MEASURED - 1), "WITHSCORES")),
    ]);
    const tenants = pending.filter((_, index) => index % 2 === 0);
    const lengths = tenants.map((id) => ask((redis) => redis.xlen(tenantKeys(tenantTag(id)).outbox)));
    const [, since] = pending;
    return {
      entries: Number(backlog ?? 0),
      largest: Math.max(0, ...(await Promise.all(lengths))),
      oldestMs: since === undefined ? 0 : Math.max(0, Date.now() - Number(since)),
    };
  }

  async function stats(): Promise<OutboxStats> {
    const shards = await Promise.all(Array.from({ length: SHARDS }, (_, shard) => measure(shard)));
    return {
      entries: shards.reduce((sum, { entries }) => sum + entries, 0),
      largest: Math.max(...shards.map(({ largest }) => largest)),
      oldestMs: Math.max(...shards.map(({ oldestMs }) => oldestMs)),
    };
  }

  const hasTenant = async (tenantId: string): Promise<boolean> =>
    (await outbox.lastSeq(tenantId, 0)) !== undefined;

  return { ...outbox, hasTenant, quarantined, stats };
}
