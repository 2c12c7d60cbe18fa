/** What must be true of Redis and Loki when all is quiet after crashes of everything that lies between them. */
import type { Redis } from "ioredis";
import type { AuditEntry } from "../../shared/audit.ts";
import { entryFromLine, logQuery, MAX_QUERY_ENTRIES, queryWindow } from "../../shared/loki.ts";
import type { LokiClient, LokiLine } from "../../shared/node/loki-client.ts";
import { backlogKey, expiriesKey, pendingKey, SHARDS } from "../../shared/redis/keys.ts";
import type { Sent } from "./crash-audit-load.ts";
import type { ProcessTenant } from "./process.ts";

const DAY = 24 * 3600 * 1000;

/** The row of a tenant in the table, and every sentence about it that should not have to be said. */
export interface Findings {
  readonly tenant: string;
  readonly acknowledged: number;
  readonly unknown: number;
  /** Of the unknown ones. */
  readonly happened: number;
  /** By Redis's count. */
  readonly entries: number;
  readonly inLoki: number;
  readonly gaps: number;
  readonly doubles: number;
  readonly expirations: number;
  readonly violations: readonly string[];
}

type Claim = (holds: boolean, sentence: string) => unknown;

/** Whether nothing waits anywhere: sentences about what does. */
export async function findWaiting(redis: Redis, tenants: readonly ProcessTenant[]): Promise<string[]> {
  const shards = Array.from({ length: SHARDS }, (_, shard) => shard);
  const backlogs = await redis.mget(shards.map(backlogKey));
  const pending = (
    await Promise.all(shards.map((shard) => redis.zrange(pendingKey(shard), "0", "-1")))
  ).flat();
  const expiries = (await Promise.all(shards.map((shard) => redis.zcard(expiriesKey(shard))))).reduce(sum, 0);
  const lengths = await Promise.all(tenants.map(({ keys }) => redis.xlen(keys.outbox)));
  const counted = backlogs.map((count) => Number(count ?? 0));
  return [
    ...lengths.flatMap((length, i) =>
      length > 0 ? [`${tenants[i]?.id}: ${length} wait in the outbox`] : [],
    ),
    ...(counted.some((count) => count !== 0) ? [`the backlogs count ${counted.filter(Boolean).join()}`] : []),
    ...(pending.length > 0 ? [`pending are ${pending.join()}`] : []),
    ...(expiries > 0 ? [`${expiries} expiries are not recorded`] : []),
  ];
}

const sum = (a: number, b: number): number => a + b;

/** Everything that log queries show of a tenant, newest first, in pages. */
async function readAll(loki: LokiClient, tenantId: string): Promise<LokiLine[]> {
  const all: LokiLine[] = [];
  const options = { now: Date.now(), retention: DAY };
  let before: string | undefined;
  for (;;) {
    const window = queryWindow({}, { ...options, before });
    if (window === undefined) return all;
    const page = { query: logQuery(tenantId, {}), ...window, limit: MAX_QUERY_ENTRIES };
    const lines = await loki.queryRange(tenantId, { ...page, direction: "backward" });
    all.push(...lines);
    before = lines.length === MAX_QUERY_ENTRIES ? lines.at(-1)?.ns : window.start;
  }
}

/** @param sent everything that was sent for this tenant */
export async function verifyTenant(
  redis: Redis,
  loki: LokiClient,
  { id, keys }: ProcessTenant,
  sent: readonly Readonly<Sent>[],
): Promise<Findings> {
  const violations: string[] = [];
  const claim = (holds: boolean, sentence: string) => holds || violations.push(`${id}: ${sentence}`);
  const lines = await readAll(loki, id);
  const found = lines.map(({ line }) => entryFromLine(line)).filter((entry) => entry !== undefined);
  claim(found.length === lines.length, `${lines.length - found.length} lines are no entries`);
  claim(
    found.every(({ tenant_id }) => tenant_id === id),
    "sees entries of another tenant",
  );
  const last = Number(await redis.hget(keys.tenant, "seq"));
  claim((await redis.exists(keys.quarantine)) === 0, "has entries in quarantine");

  const trail = [...new Map(found.map((entry) => [entry.id, entry])).values()].sort((a, b) => a.seq - b.seq);
  const seqs = new Set(trail.map(({ seq }) => seq));
  const gaps = Array.from({ length: last }, (_, index) => index + 1).filter((seq) => !seqs.has(seq));
  claim(gaps.length === 0, `of ${last} entries ${gaps.length} are not in Loki: ${gaps.slice(0, 20).join()}`);
  const doubles = lines.length - seqs.size;
  claim(doubles === 0, `${doubles} entries are in Loki twice, or two have one number`);
  claim((trail.at(-1)?.seq ?? 0) <= last, `Loki has number ${trail.at(-1)?.seq}, Redis ends with ${last}`);

  const happened = matchAnswers(trail, sent, claim);
  const expirations = matchExpirations(trail, sent, claim);
  const count = (...outcomes: string[]) => sent.filter(({ outcome }) => outcomes.includes(outcome)).length;
  return {
    tenant: id,
    acknowledged: count("success", "denied", "failure"),
    unknown: count("unknown"),
    happened,
    entries: last,
    inLoki: lines.length,
    ...{ gaps: gaps.length, doubles, expirations, violations },
  };
}

/** @returns how many of the requests without an answer have an entry */
function matchAnswers(trail: readonly AuditEntry[], sent: readonly Readonly<Sent>[], claim: Claim): number {
  const operations = trail.filter(({ action }) => action !== "key_expiration");
  const byRequest = Map.groupBy(operations, ({ request_id }) => request_id);
  let happened = 0;
  for (const { requestId, action, target, outcome, status } of sent) {
    const entries = byRequest.get(requestId) ?? [];
    byRequest.delete(requestId);
    const what = `${requestId} (${action} ${target}, ${outcome} ${status})`;
    claim((status ?? 0) < 500 || status === 503, `${what} should not be answered`);
    const [entry] = entries;
    if (outcome === "unknown") {
      claim(entries.length <= 1, `${what} has ${entries.length} entries`);
      happened += entries.length;
    } else {
      const expected = outcome === "none" ? 0 : 1;
      claim(entries.length === expected, `${what} has ${entries.length} entries`);
      if (entry !== undefined) claim(entry.outcome === outcome, `${what} was audited as ${entry.outcome}`);
    }
    if (entry === undefined) continue;
    const isSame = entry.action === action && (target === undefined || entry.target.id === target);
    claim(isSame, `${what} was audited as ${entry.action} ${entry.target.id}`);
  }
  claim(byRequest.size === 0, `entries of requests that nobody sent: ${[...byRequest.keys()].join()}`);
  return happened;
}

/** When an item expires: as its writer was told, or if nobody was, this or a moment before. Milliseconds since 1970. */
interface Due {
  readonly at: number;
  readonly isExact: boolean;
}
/** How far an entry's time may be behind the one from which a ttl counts: it never runs backwards inside a tenant. */
const MOMENT = 1_000;

/** Do again what the trail says was done: an item with a ttl ends by its expiry, at its time and once, or does not reach it. */
function matchExpirations(
  trail: readonly AuditEntry[],
  sent: readonly Readonly<Sent>[],
  claim: Claim,
): number {
  const told = new Map(sent.map(({ requestId, expiresAt }) => [requestId, expiresAt]));
  /** Of items that are there. */
  const items = new Map<string, Due | undefined>();
  const expired = new Map<string, number>();
  for (const { seq, action, outcome, target, details, timestamp, request_id } of trail) {
    const key = target.id ?? "";
    if (outcome !== "success") continue;
    const what = `entry ${seq} (${action} ${key}, ${timestamp})`;
    if (action === "key_expiration") {
      const due = items.get(key);
      const at = Date.parse(details.expires_at ?? "");
      const early = due === undefined ? Number.NaN : due.at - at;
      const isTrue = early === 0 || (due?.isExact === false && early > 0 && early < MOMENT);
      claim(isTrue, `${what} says ${details.expires_at}, it was due at ${JSON.stringify(due)}`);
      claim(Date.parse(timestamp) >= at, `${what} comes before its time, ${details.expires_at}`);
      items.delete(key);
      expired.set(key, (expired.get(key) ?? 0) + 1);
    } else if (action === "create_key" || action === "update_key") {
      claim(items.has(key) === (action === "update_key"), `${what} does not follow from those before it`);
      const answered = told.get(request_id);
      const due =
        answered === undefined
          ? { at: Date.parse(timestamp) + (details.ttl ?? 0) * 1000, isExact: false }
          : { at: Date.parse(answered), isExact: true };
      items.set(key, details.ttl === undefined ? undefined : due);
    } else if (action === "delete_key") {
      claim(items.delete(key), `${what} does not follow from those before it`);
    }
  }
  for (const [key, due] of items) claim(due === undefined, `the expiry of ${key} has no entry`);
  // From the other side: of these, every one that was created has expired.
  for (const { target = "", outcome } of sent) {
    if (!target.startsWith("once-") || outcome !== "success") continue;
    claim(expired.get(target) === 1, `${target} has ${expired.get(target) ?? 0} entries of its expiry`);
  }
  return [...expired.values()].reduce(sum, 0);
}
