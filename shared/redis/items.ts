/** Items in Redis: a hash each, with the key's own expiry. */
import { strongRevisions, weakRevisions } from "../etag.ts";
import type { ItemContent, ItemStore, Preconditions, StoredItem } from "../items.ts";
import type { Execute } from "./execute.ts";
import { expiryContext } from "./expiry.ts";
import type { TenantKeys } from "./keys.ts";
import { fieldsOf, toTime, toTimeOrNull } from "./replies.ts";

export function createItemStore(execute: Execute): ItemStore {
  return {
    async create(call, key, content) {
      const stamps = await execute(call, {
        script: "create-item",
        ...changing(key),
        args: [...contentArguments(content), expiryContext(key)],
        details: detailsOf(content),
      });
      return storedItem(key, content, fieldsOf(stamps));
    },

    async get(call, key) {
      const reply = await execute(call, {
        script: "get-item",
        keys: (tenant) => [tenant.item(key)],
        target: key,
      });
      const [value = "", metadata = "", ttl = "", ...stamps] = fieldsOf(reply);
      const content = { value, metadata, ttl: ttl === "" ? null : Number(ttl) };
      const [created, updated, expires, version, revision] = stamps;
      return storedItem(key, content, [created, updated, expires, version, revision] as string[]);
    },

    async update(call, key, content, preconditions) {
      const stamps = await execute(call, {
        script: "update-item",
        ...changing(key),
        args: [...contentArguments(content), ...conditions(preconditions)],
        details: detailsOf(content),
      });
      return storedItem(key, content, fieldsOf(stamps));
    },

    async delete(call, key, preconditions) {
      await execute(call, {
        script: "delete-item",
        ...changing(key),
        args: [...conditions(preconditions)],
      });
    },
  };
}

/** What operations that change an item name: the item, and the index of expiries that must agree with it. */
const changing = (key: string) => ({
  keys: (tenant: TenantKeys) => [tenant.item(key), tenant.expiries],
  target: key,
});

const contentArguments = ({ value, metadata, ttl }: ItemContent): string[] => [
  value,
  metadata,
  ttl?.toString() ?? "",
];

const detailsOf = ({ ttl }: ItemContent) => (ttl === null ? {} : { ttl });

const conditions = ({ ifMatch, ifNoneMatch }: Preconditions): string[] => [
  ifMatch === undefined ? "" : revisionList(strongRevisions(ifMatch)),
  ifNoneMatch === undefined ? "" : revisionList(weakRevisions(ifNoneMatch)),
];

const revisionList = (revisions: "*" | string[]): string =>
  revisions === "*" ? "*" : `,${revisions.join(",")},`;

/** @param stamps created_at, updated_at, expires_at, version, revision, as the scripts answer them */
function storedItem(
  key: string,
  { value, metadata, ttl }: ItemContent,
  stamps: readonly string[],
): StoredItem {
  const [createdAt, updatedAt, expiresAt, version, revision = ""] = stamps;
  return {
    item: {
      key,
      value: JSON.parse(value),
      metadata: JSON.parse(metadata),
      ttl,
      expires_at: toTimeOrNull(expiresAt),
      version: Number(version),
      created_at: toTime(createdAt),
      updated_at: toTime(updatedAt),
    },
    revision,
  };
}
