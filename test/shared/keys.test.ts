import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { tenantId } from "../../shared/formats.ts";
import {
  addressFailuresKey,
  DEMO_KEY,
  loginKey,
  pendingKey,
  SHARDS,
  type TenantKeys,
  tenantKeys,
  tenantTag,
  userFailuresKey,
} from "../../shared/redis/keys.ts";

const tenant = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,62}$/);
const twoTenants = fc.tuple(tenant, tenant).filter(([one, other]) => one !== other);

/** What a caller could name an item in order to reach something else. */
const hostile = fc.constantFrom(
  ..."x tenant users api-keys api-key-index outbox pending backlog item demo item: item:x :item:x".split(" "),
  ..."deleted-api-key: :tenant ../tenant .. ../ {} { } }{ {s1} {s1}:pending {}:x {{s1}} }:x a{b}c{d}".split(
    " ",
  ),
  ...["", "\0", "\n", " ", "*", "?", "[a]", "\\"],
  tenantKeys(tenantTag("tenant1")).tenant,
  tenantKeys(tenantTag("tenant1")).item("x"),
  loginKey("admin"),
);
const wellFormed = fc.oneof(hostile, fc.string({ unit: "binary" }));
const anyText = fc.oneof(
  wellFormed,
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) }),
  fc.array(hostile).map((pieces) => pieces.join("")),
);

const keysOf = (id: string): TenantKeys => tenantKeys(tenantTag(id));
const prefixOf = (keys: TenantKeys): string => keys.tenant.slice(0, -"tenant".length);

/** What all tenants of a shard share; every other name belongs to one tenant alone. */
const SHARED = ["pending", "backlog", "expiries"];
/** Names of whatever kinds there will be; `text` is given to those that take one. */
const namesOf = (keys: TenantKeys, text: string, shared: boolean): string[] =>
  Object.entries(keys)
    .filter(([kind]) => kind !== "tag" && SHARED.includes(kind) === shared)
    .map(([, name]) => (typeof name === "string" ? name : name(text)));
const ownNames = (keys: TenantKeys, text: string): string[] => namesOf(keys, text, false);
const sharedNames = (keys: TenantKeys): string[] => namesOf(keys, "", true);

/** Redis Cluster specification: CRC16 (XMODEM) of the first non-empty {hash tag}, or of the whole key, modulo 16384. */
function slotOf(key: string): number {
  const open = key.indexOf("{");
  const close = key.indexOf("}", open + 1);
  const hashed = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key;
  return crc16(Buffer.from(hashed)) % 16_384;
}
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

test("the slot computed here is the one that Redis documents", () => {
  expect(crc16(Buffer.from("123456789"))).toBe(0x31c3);
  expect(slotOf("somekey")).toBe(11_058);
  expect(slotOf("foo{hash_tag}")).toBe(2_515);
  expect(slotOf("{user1000}.following")).toBe(slotOf("{user1000}.followers"));
});

test("no key of a tenant equals, or lies under the prefix of, another tenant's, whatever its items are called", () => {
  fc.assert(
    fc.property(twoTenants, anyText, ([one, other], text) => {
      expect(tenantId.safeParse(one).success).toBe(true);
      const [mine, theirs] = [keysOf(one), keysOf(other)];
      for (const name of ownNames(mine, text)) {
        expect(name.startsWith(prefixOf(mine))).toBe(true);
        expect(name.startsWith(prefixOf(theirs))).toBe(false);
      }
    }),
    { numRuns: 500 },
  );
});

test("an item that is called like a key of another tenant is still an item of its own tenant", () => {
  fc.assert(
    fc.property(twoTenants, anyText, ([one, other], text) => {
      const [mine, theirs] = [keysOf(one), keysOf(other)];
      for (const stolen of [...ownNames(theirs, text), ...sharedNames(theirs)]) {
        expect(mine.item(stolen).startsWith(prefixOf(mine))).toBe(true);
        expect(ownNames(theirs, text)).not.toContain(mine.item(stolen));
      }
    }),
  );
});

test("all keys of one tenant share one slot of a Redis Cluster, braces in item keys or not", () => {
  fc.assert(
    fc.property(tenant, anyText, (id, text) => {
      const keys = keysOf(id);
      const names = [...ownNames(keys, text), ...sharedNames(keys)];
      expect(new Set(names.map(slotOf)).size).toBe(1);
    }),
    { numRuns: 500 },
  );
});

test("two kinds of keys of one tenant never have the same name", () => {
  fc.assert(
    fc.property(tenant, anyText, anyText, (id, itemKey, keyId) => {
      const keys = keysOf(id);
      const withText = [keys.item(""), keys.deletedApiKey("")];
      const fixed = ownNames(keys, "").filter((name) => !withText.includes(name));
      const names = [...fixed, keys.item(itemKey), keys.deletedApiKey(keyId), ...sharedNames(keys), DEMO_KEY];
      expect(names.length).toBeGreaterThanOrEqual(10);
      expect(new Set(names.map((name) => Buffer.from(name).toString("hex"))).size).toBe(names.length);
    }),
    { numRuns: 500 },
  );
});

test("two items of one tenant never have the same name", () => {
  fc.assert(
    fc.property(tenant, wellFormed, wellFormed, (id, one, other) => {
      fc.pre(one !== other);
      const { item } = keysOf(id);
      expect(Buffer.from(item(one)).equals(Buffer.from(item(other)))).toBe(false);
    }),
  );
});

test("what belongs to nobody lies under no tenant's prefix: shards, login names, failure counters", () => {
  fc.assert(
    fc.property(tenant, tenant, anyText, (id, other, text) => {
      const prefix = prefixOf(keysOf(id));
      const common = [...sharedNames(keysOf(id)), ...sharedNames(keysOf(other)), DEMO_KEY];
      const logins = [loginKey(text), userFailuresKey(text), addressFailuresKey(text)];
      expect([...common, ...logins].filter((name) => name.startsWith(prefix))).toEqual([]);
    }),
  );
});

test("a login name becomes a key of fixed form, another for every name", () => {
  fc.assert(
    fc.property(wellFormed, wellFormed, (one, other) => {
      expect(loginKey(one)).toMatch(/^\{u[\w-]{22}\}:login$/);
      expect(userFailuresKey(one)).toMatch(/^\{u[\w-]{22}\}:failures$/);
      expect(addressFailuresKey(one)).toMatch(/^\{a[\w-]{22}\}:failures$/);
      expect(loginKey(one) === loginKey(other)).toBe(one === other);
      expect(slotOf(loginKey(one))).toBe(slotOf(userFailuresKey(one)));
    }),
  );
});

test("64 shards are 64 slots, and 10,000 tenants fill all of them evenly", () => {
  expect(SHARDS).toBe(64);
  const shards = Array.from({ length: SHARDS }, (_, shard) => pendingKey(shard));
  expect(new Set(shards.map(slotOf)).size).toBe(64);

  const counts = new Map(shards.map((name) => [name, 0]));
  for (let i = 0; i < 10_000; i += 1) {
    const { pending } = keysOf(`tenant-${i}`);
    counts.set(pending, (counts.get(pending) ?? 0) + 1);
  }
  expect([...counts.keys()]).toEqual(shards);
  // 156 on average. The ids are fixed, so these bounds cannot flake.
  expect(Math.min(...counts.values())).toBeGreaterThan(100);
  expect(Math.max(...counts.values())).toBeLessThan(220);
});

test("a tenant's tag is the first 64 bits of the SHA-256 of its id in 11 base62 characters", () => {
  const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  fc.assert(
    fc.property(tenant, (id) => {
      let rest = BigInt(`0x${createHash("sha256").update(id).digest("hex").slice(0, 16)}`);
      let expected = "";
      for (let digit = 0; digit < 11; digit += 1) {
        expected = alphabet[Number(rest % 62n)] + expected;
        rest /= 62n;
      }
      expect(tenantTag(id)).toBe(expected);
    }),
  );
});

test("a tenant's shard is the CRC-32 of its tag modulo 64", () => {
  fc.assert(
    fc.property(tenant, (id) => {
      const shard = crc32(tenantTag(id)) % 64;
      expect(keysOf(id)).toMatchObject({ pending: `{s${shard}}:pending`, backlog: `{s${shard}}:backlog` });
    }),
  );
});

test("the names are the ones that stores in use hold already", () => {
  expect(["a", "acme-corp", "0".repeat(63)].map(tenantTag)).toEqual([
    "HOOGnodihbO",
    "Ki9xFVRUkm6",
    "H9qj3Nx1wQW",
  ]);
  const keys = keysOf("tenant1");
  expect(keys).toMatchObject({
    tag: "5z1d6FGvL8h",
    tenant: "{s6}:5z1d6FGvL8h:tenant",
    users: "{s6}:5z1d6FGvL8h:users",
    apiKeys: "{s6}:5z1d6FGvL8h:api-keys",
    apiKeyIndex: "{s6}:5z1d6FGvL8h:api-key-index",
    outbox: "{s6}:5z1d6FGvL8h:outbox",
    pending: "{s6}:pending",
    backlog: "{s6}:backlog",
  });
  expect(keys.item("a{b}")).toBe("{s6}:5z1d6FGvL8h:item:a{b}");
  expect(keys.deletedApiKey("key_0")).toBe("{s6}:5z1d6FGvL8h:deleted-api-key:key_0");
  // The first 22 characters of: printf %s admin | openssl dgst -sha256 -binary | base64url
  expect(loginKey("admin")).toBe("{ujGl25bVBBBW96Qi9Te4V37}:login");
});

test("10,000 tenants have 10,000 tags", () => {
  const tags = new Set(Array.from({ length: 10_000 }, (_, i) => tenantTag(`tenant-${i}`)));
  expect(tags.size).toBe(10_000);
});
