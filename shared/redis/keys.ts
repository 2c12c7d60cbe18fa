/** Names of everything that is stored; schema.md says what each holds. */
import { createHash } from "node:crypto";
import { crc32, TENANT_TAG_LENGTH } from "../api-key.ts";
import { toBase62 } from "../formats.ts";

/** Fixed for ever: a tenant's place follows from it. 64 shards spread over as many masters as a Redis Cluster needs. */
export const SHARDS = 64;

/** Tags that are remembered: 3 us of each request of a signed-in user. */
const MAX_TAGS = 10_000;
const tags = new Map<string, string>();

/**
 * 64 bits of SHA-256 of a tenant id in base62: what stands for the tenant in key names and API key texts. Two tenants
 * can never share one silently: creating the second is refused, and every script compares the full id.
 */
export function tenantTag(tenantId: string): string {
  const known = tags.get(tenantId);
  if (known !== undefined) return known;
  const hash = createHash("sha256").update(tenantId).digest();
  const tag = toBase62(hash.readBigUInt64BE(), TENANT_TAG_LENGTH);
  if (tags.size >= MAX_TAGS) tags.clear();
  tags.set(tenantId, tag);
  return tag;
}

const shardOf = (tag: string): number => crc32(tag) % SHARDS;

/** The hash tag in braces makes all keys of a shard share one slot of a Redis Cluster. */
export const pendingKey = (shard: number): string => `{s${shard}}:pending`;
export const backlogKey = (shard: number): string => `{s${shard}}:backlog`;
export const expiriesKey = (shard: number): string => `{s${shard}}:expiries`;

/** Keys of one tenant. The tag has a fixed length and alphabet, so no tenant's prefix is another's. */
export function tenantKeys(tag: string) {
  const shard = shardOf(tag);
  const prefix = `{s${shard}}:${tag}`;
  return {
    tag,
    tenant: `${prefix}:tenant`,
    users: `${prefix}:users`,
    apiKeys: `${prefix}:api-keys`,
    apiKeyIndex: `${prefix}:api-key-index`,
    outbox: `${prefix}:outbox`,
    pending: pendingKey(shard),
    backlog: backlogKey(shard),
    expiries: expiriesKey(shard),
    quarantine: `${prefix}:quarantine`,
    item: (key: string) => `${prefix}:item:${key}`,
    deletedApiKey: (keyId: string) => `${prefix}:deleted-api-key:${keyId}`,
  };
}

/**
 * Name of an entry in its outbox and in the quarantine, made of its number and four of the random characters of its own id,
 * as outbox.lua makes it. After a failover that lost writes a number can be given twice: whoever takes one of the two
 * entries out does not take the other.
 */
export function streamIdOf({ seq, id }: { readonly seq: number; readonly id: string }): string {
  let mark = 0;
  for (let i = 4; i < 8; i += 1) mark = mark * 256 + id.charCodeAt(i);
  return `${seq}-${mark}`;
}
export const seqOf = (streamId: string): number => Number(streamId.split("-", 1)[0]);

/** The tenant's tag and the item's key in the name of an item, as `tenantKeys().item()` makes it. */
export function itemOf(name: string): { tag: string; key: string } {
  const [, tag, key] = /^\{s\d+\}:(\w+):item:(.*)$/s.exec(name) ?? [];
  if (tag === undefined || key === undefined) throw new Error("not the name of an item");
  return { tag, key };
}

export type TenantKeys = ReturnType<typeof tenantKeys>;

const digest = (text: string): string => createHash("sha256").update(text).digest("base64url").slice(0, 22);

/** Where a login name leads, and its failures; hashed, because a name can hold any character. */
export const loginKey = (username: string): string => `{u${digest(username)}}:login`;
export const userFailuresKey = (username: string): string => `{u${digest(username)}}:failures`;
export const addressFailuresKey = (address: string): string => `{a${digest(address)}}:failures`;

/** Written to prove that a server takes writes, and that replicas have what was written before it; in the slot of `key`. */
export const probeKey = (key: string): string => `${key.slice(0, key.indexOf("}") + 1)}:probe`;
/** Seconds after which it goes by itself. */
export const PROBE_TTL = 10;

/** Events that nobody could deliver, of all tenants and of none. */
export const DEAD_LETTERS_KEY = "dead-letters";

/** Whether `npm start` has put its demo users into this store. */
export const DEMO_KEY = "demo";
