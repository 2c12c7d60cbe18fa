/** shared/redis/schema.md against what a run of every endpoint leaves in Redis, both ways. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readDeadLetter } from "../shared/dead-letter.ts";
import { createDemoUsers } from "../shared/node/dev/demo.ts";
import { createDeadLetters } from "../shared/redis/dead-letters.ts";
import { recordExpiries } from "../shared/redis/expiry.ts";
import { loginKey } from "../shared/redis/keys.ts";
import { createOutbox } from "../shared/redis/outbox.ts";
import { createStore } from "../shared/redis/store.ts";
import { type Route, type RouteId, routes } from "../shared/routes.ts";
import { createHarness } from "./support/harness.ts";
import { ownRedis } from "./support/own-redis.ts";
import { bodyOf, samples } from "./support/samples.ts";

interface Documented {
  readonly name: string;
  readonly pattern: RegExp;
  readonly type: string;
  /** Of a hash: the names of its fields, without the id that some have in front; `<seq>` is a sequence number. */
  readonly fields: readonly string[];
  readonly expires: string;
}

/** `| `key` | type | fields | example | expires | …` */
const documented: readonly Documented[] = readFileSync(
  new URL("../shared/redis/schema.md", import.meta.url),
  "utf8",
)
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => {
    const [, key = "", type = "", fields = "", , expires = ""] = line.split("|").map((cell) => cell.trim());
    const name = key.replaceAll("`", "");
    const source = name
      .replaceAll(/[{}]/g, "\\$&")
      .replaceAll(
        /<(\w+)( \w+)?>/g,
        (_, first) => ({ n: "\\d+", tag: "\\w{11}", hash: "[\\w-]{22}" })[first as string] ?? ".+",
      );
    const names = [...fields.matchAll(/`(?:<\w+ \w+>)?\.?(\w+|<seq>-<mark>)`/g)].map(([, field]) =>
      String(field),
    );
    return {
      name,
      pattern: new RegExp(`^${source}$`, "s"),
      type: type === "sorted set" ? "zset" : type,
      fields: names,
      expires,
    };
  });

const store = await ownRedis();
const api = await createHarness({ REDIS_URL: store.url });
afterAll(async () => {
  await api.close();
  await store.stop();
});

beforeAll(async () => {
  await createDemoUsers(api.store);
  for (const route of routes as readonly Route[]) {
    const tenant = await api.tenant();
    const sample = await samples[route.id as RouteId](api, tenant);
    await api.send(route.method, sample.path, { as: tenant.admin.token, ...bodyOf(sample) });
  }
  const tenant = await api.tenant();
  const key = await api.apiKey(tenant);
  await api.send("GET", "/data/a", { as: key.text });
  await api.send("POST", "/data", { as: key.text, json: { key: "hostile:{x}:outbox\u00a0", value: 1 } });
  await api.send("POST", "/data", { as: key.text, json: { key: "expired", value: 1, ttl: 1 } });
  await api.redis.zadd(tenant.keys.expiries, "XX", 1, tenant.keys.item("expired"));
  await recordExpiries(api.store, 1_000_000);
  const [poison] = await api.trail(tenant);
  if (poison !== undefined) await createOutbox(api.store).quarantine(tenant.id, poison, "too old");
  const letter = readDeadLetter(new Headers(), { bytes: new Uint8Array(1), length: 1 });
  await createDeadLetters(api.store).keep(letter);
  await api.send("DELETE", `/api-keys/${key.id}`, { as: tenant.admin.token });
  await api.send("GET", "/data/a", { as: key.text });
  await api.send("GET", "/data/a", { as: (await api.apiKey(tenant, { enabled: false })).text });
  // Nobody replicates this Redis, which the probe is for.
  const hoping = createStore(api.redis, { minReplicas: 1 });
  const unsure = [tenant.keys.pending, loginKey(tenant.user.username)].map(async (key) => {
    const confirm = await hoping.watch(key);
    await confirm();
  });
  for (const { status } of await Promise.allSettled(unsure)) expect(status).toBe("rejected");
  await api.redis.hset(tenant.keys.users, `${tenant.user.id}.disabled`, "1");
  await api.send("GET", "/data/a", { as: tenant.user.token });
  await api.send("POST", "/token", {
    json: { username: tenant.user.username, password: "wrong" },
    from: "192.0.2.1",
  });
});

test("every key in Redis is documented, with its type, its fields and whether it expires", async () => {
  const keys = await api.redis.keys("*");
  expect(keys.length).toBeGreaterThan(documented.length);
  const seenFields = new Set<string>();
  for (const key of keys) {
    const rows = documented.filter(({ pattern }) => pattern.test(key));
    expect([key, rows.length]).toEqual([key, 1]);
    const [row] = rows as [Documented];
    expect([key, await api.redis.type(key)]).toEqual([key, row.type]);
    const expires = (await api.redis.pttl(key)) >= 0;
    if (row.expires === "never") expect([key, expires]).toEqual([key, false]);
    else if (!row.expires.includes(" if ")) expect([key, expires]).toEqual([key, true]);
    if (row.type === "hash") {
      const fields = (await api.redis.hkeys(key)).map((field) =>
        field.replace(/^\w+\./, "").replace(/^\d+-\d+$/, "<seq>-<mark>"),
      );
      expect([key, fields.filter((field) => !row.fields.includes(field))]).toEqual([key, []]);
      for (const field of fields) seenFields.add(`${row.name} ${field}`);
    }
  }
  const hashes = documented.filter(({ type }) => type === "hash");
  const unseen = hashes.flatMap(({ name, fields }) => fields.map((field) => `${name} ${field}`));
  expect(unseen.filter((field) => !seenFields.has(field))).toEqual([]);
});

test("everything that is documented is written by somebody", async () => {
  const keys = await api.redis.keys("*");
  const unused = documented.filter(({ pattern }) => !keys.some((key) => pattern.test(key)));
  expect(unused.map(({ name }) => name)).toEqual([]);
});

test("the fields of a dead letter are documented", async () => {
  const [[, fields] = ["", []]] = await api.redis.xrange("dead-letters", "-", "+");
  const written = fields.filter((_, index) => index % 2 === 0);
  expect(written.sort()).toEqual(documented.find(({ name }) => name === "dead-letters")?.fields.toSorted());
});

test("the fields of an outbox entry are documented", async () => {
  const row = documented.find(({ name }) => name.endsWith(":outbox"));
  const written = new Set<string>();
  for (const key of await api.redis.keys("*:outbox")) {
    for (const [, fields] of await api.redis.xrange(key, "-", "+")) {
      for (let i = 0; i < fields.length; i += 2) written.add(String(fields[i]));
    }
  }
  expect([...written].sort()).toEqual(row?.fields.filter((field) => field !== "<seq>-<mark>").sort());
});

test("the backlog counts what all outboxes of the shards hold, and pending names their tenants", async () => {
  const total = async (pattern: string, count: (key: string) => Promise<number>) => {
    const counts = await Promise.all((await api.redis.keys(pattern)).map(count));
    return counts.reduce((sum, one) => sum + one, 0);
  };
  const entries = await total("*:outbox", (key) => api.redis.xlen(key));
  expect(entries).toBeGreaterThan(10);
  expect(await total("*:backlog", async (key) => Number(await api.redis.get(key)))).toBe(entries);
  expect(await total("*:pending", (key) => api.redis.zcard(key))).toBe(
    (await api.redis.keys("*:outbox")).length,
  );
});
