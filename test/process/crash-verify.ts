/** What must be true of Redis after any crash, looked for from both sides: what was answered, and what was audited. */
import type { Redis } from "ioredis";
import type { AuditEntry } from "../../shared/audit.ts";
import { decodeEntry } from "../../shared/redis/audit.ts";
import { backlogKey, SHARDS, type TenantKeys } from "../../shared/redis/keys.ts";
import type { Sent } from "./crash-load.ts";

interface Tenant {
  readonly id: string;
  readonly keys: TenantKeys;
}

/** What a tenant holds, and every sentence about it that should not have to be said. */
export interface Findings {
  readonly violations: string[];
  readonly entries: number;
  /** Requests of unknown outcome that turn out to have happened. */
  readonly happened: number;
  readonly items: number;
  readonly apiKeys: number;
}

interface Item {
  readonly version: number;
  /** Of the request that stored it. */
  readonly requestId: string;
  readonly seq: number;
}

/** @param sent everything that was sent for this tenant, in order */
export async function verifyTenant(redis: Redis, tenant: Tenant, sent: readonly Sent[]): Promise<Findings> {
  const rows = await redis.xrange(tenant.keys.outbox, "-", "+");
  const trail = rows.map(([id, fields]) => decodeEntry(tenant.id, id, fields));
  const violations: string[] = [];
  const claim = (holds: boolean, sentence: string) => holds || violations.push(`${tenant.id}: ${sentence}`);

  for (const [index, { seq }] of trail.entries())
    claim(seq === index + 1, `entry ${index + 1} has number ${seq}`);
  const last = Number(await redis.hget(tenant.keys.tenant, "seq"));
  claim(last === trail.length, `the next number follows ${last}, the trail ends with ${trail.length}`);
  claim(
    trail.length === 0 || (await redis.zscore(tenant.keys.pending, tenant.id)) !== null,
    "is not listed among the tenants with entries that wait",
  );

  const happened = matchAnswers(trail, sent, claim);
  const { items, apiKeys } = replay(trail, claim);
  await compareItems(redis, tenant.keys, items, claim);
  await compareApiKeys(redis, tenant.keys, apiKeys, trail, claim);
  await compareOwnItems(redis, tenant.keys, sent, claim);
  return { violations, entries: trail.length, happened, items: items.size, apiKeys: apiKeys.size };
}

type Claim = (holds: boolean, sentence: string) => unknown;

/** Every answered request has exactly one entry that says the same; others have one at most; no entry is a stranger's. */
function matchAnswers(trail: readonly AuditEntry[], sent: readonly Sent[], claim: Claim): number {
  const byRequest = Map.groupBy(trail, ({ request_id }) => request_id);
  const lastOf = new Map<string, number>();
  let happened = 0;
  for (const { requestId, writer, action, target, outcome, status, version } of sent) {
    const entries = byRequest.get(requestId) ?? [];
    byRequest.delete(requestId);
    const [entry] = entries;
    const what = `${requestId} (${action} ${target}, ${outcome} ${status})`;
    if (outcome === "unknown") {
      claim(entries.length <= 1, `${what} has ${entries.length} entries`);
      if (entry?.outcome === "success") happened += 1;
      continue;
    }
    claim(entries.length === 1, `${what} has ${entries.length} entries`);
    if (entry === undefined) continue;
    const refused = outcome === "refused";
    if (refused) claim([404, 409].includes(status ?? 0), `${what} should not be refused`);
    claim(entry.outcome === (refused ? "failure" : "success"), `${what} was audited as ${entry.outcome}`);
    claim(entry.action === action && entry.target.id === target, `${what} was audited as something else`);
    claim(version === undefined || entry.details.version === version, `${what}: another version was audited`);
    claim(entry.seq > (lastOf.get(writer) ?? 0), `${what} was audited before what its writer did before`);
    lastOf.set(writer, entry.seq);
  }
  for (const requestId of byRequest.keys()) claim(false, `an entry of ${requestId}, which nobody sent`);
  return happened;
}

/** Do again what the trail says was done, checking that each step was possible. */
function replay(trail: readonly AuditEntry[], claim: Claim) {
  const items = new Map<string, Item>();
  const apiKeys = new Map<string, string>();
  for (const { seq, action, outcome, target, details, request_id: requestId } of trail) {
    const id = target.id ?? "";
    const what = `entry ${seq} (${action} ${id}, ${outcome})`;
    const version = details.version ?? 0;
    if (action === "create_key" || action === "update_key" || action === "delete_key") {
      const before = items.get(id);
      const possible = (action === "create_key") === (before === undefined);
      claim(possible === (outcome === "success"), `${what} does not follow from the entries before it`);
      if (outcome !== "success") continue;
      const step = action === "delete_key" ? 0 : 1;
      claim(version === (before?.version ?? 0) + step, `${what} has version ${version}`);
      if (action === "delete_key") items.delete(id);
      else items.set(id, { version, requestId, seq });
    } else if (outcome === "success" && action === "create_api_key") {
      claim(!apiKeys.has(id) && details.name === requestId, `${what} is not what was asked for`);
      apiKeys.set(id, requestId);
    } else if (action === "delete_api_key") {
      claim(apiKeys.delete(id) === (outcome === "success"), `${what} does not follow from those before it`);
    }
  }
  return { items, apiKeys };
}

async function compareItems(redis: Redis, keys: TenantKeys, expected: Map<string, Item>, claim: Claim) {
  const prefix = keys.item("");
  const stored: string[] = [];
  for await (const found of redis.scanStream({ count: 1_000 })) {
    stored.push(...(found as string[]).filter((key) => key.startsWith(prefix)));
  }
  for (const key of stored) {
    claim(expected.has(key.slice(prefix.length)), `item ${key} has no entry that created it`);
  }
  for (const [key, { version, requestId, seq }] of expected) {
    const item = await redis.hgetall(keys.item(key));
    const found = [item["version"], item["value"], item["revision"]].join();
    const wanted = [version, JSON.stringify(requestId), seq].join();
    claim(found === wanted, `item ${key} is ${found}, its trail says ${wanted}`);
  }
}

async function compareApiKeys(
  redis: Redis,
  keys: TenantKeys,
  expected: Map<string, string>,
  trail: readonly AuditEntry[],
  claim: Claim,
) {
  const index = await redis.zrange(keys.apiKeyIndex, "0", "-1");
  claim(
    index.sort().join() === [...expected.keys()].sort().join(),
    "the index of API keys is not its trail's",
  );
  const record = await redis.hgetall(keys.apiKeys);
  const ids = new Set(Object.keys(record).map((field) => field.split(".")[0]));
  claim(ids.size === expected.size, `${ids.size} records of API keys, ${expected.size} by the trail`);
  for (const [id, name] of expected) {
    claim(record[`${id}.name`] === name && record[`${id}.hash`] !== undefined, `API key ${id} is not whole`);
  }
  for (const { action, outcome, target } of trail) {
    if (action !== "delete_api_key" || outcome !== "success") continue;
    const kept = await redis.hlen(keys.deletedApiKey(target.id ?? ""));
    claim(kept === 3, `what proves the deleted API key ${target.id} is not kept`);
  }
}

/** Without the trail: an item that one writer alone writes is as last acknowledged, or as a later unknown request made it. */
async function compareOwnItems(redis: Redis, keys: TenantKeys, sent: readonly Sent[], claim: Claim) {
  const possible = new Map<string, Set<string>>();
  for (const { requestId, action, target, outcome } of sent) {
    if (!target?.startsWith("writer") || outcome === "refused") continue;
    const result = action === "delete_key" ? "absent" : JSON.stringify(requestId);
    const before = outcome === "acknowledged" ? [] : (possible.get(target) ?? ["absent"]);
    possible.set(target, new Set([...before, result]));
  }
  for (const [key, states] of possible) {
    const value = (await redis.hget(keys.item(key), "value")) ?? "absent";
    claim(
      states.has(value),
      `item ${key} is ${value}; it was answered that it is ${[...states].join(" or ")}`,
    );
  }
}

/** The counter that the metrics show equals what really waits. */
export async function verifyBacklog(redis: Redis, tenants: readonly Tenant[]): Promise<string[]> {
  const counts = await redis.mget(Array.from({ length: SHARDS }, (_, shard) => backlogKey(shard)));
  const counted = counts.reduce((sum, count) => sum + Number(count ?? 0), 0);
  const lengths = await Promise.all(tenants.map(({ keys }) => redis.xlen(keys.outbox)));
  const waiting = lengths.reduce((sum, length) => sum + length, 0);
  return counted === waiting ? [] : [`the backlog counts ${counted} entries, ${waiting} wait`];
}
