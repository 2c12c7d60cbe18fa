/** `node shared/node/admin.ts`: what operators do with dead letters and with the quarantine, as processes. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { readDeadLetter } from "../../shared/dead-letter.ts";
import { createDeadLetters } from "../../shared/redis/dead-letters.ts";
import { streamIdOf, tenantKeys, tenantTag } from "../../shared/redis/keys.ts";
import { createOutbox } from "../../shared/redis/outbox.ts";
import { createStore, type Store } from "../../shared/redis/store.ts";
import { createTenant } from "../../shared/redis/tenants.ts";
import { entryOf } from "../support/loki-tools.ts";
import { cleanUp, type OwnRedis, ownRedis, runScript } from "../support/process.ts";

let redis: OwnRedis;
let store: Store;
const got: { headers: IncomingHttpHeaders; body: string }[] = [];
const sink = { status: 202, url: "" };
const server = createServer(async (request, response) => {
  got.push({ headers: request.headers, body: await text(request) });
  response.writeHead(sink.status).end();
});

beforeAll(async () => {
  redis = await ownRedis(["--appendonly", "no"]);
  store = createStore(redis.redis, { minReplicas: 0 });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  sink.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/default/audit`;
});
afterAll(async () => {
  server.close();
  redis.redis.disconnect();
  await cleanUp();
});

async function admin(args: readonly string[], env: Record<string, string | undefined> = {}) {
  const program = runScript("shared/node/admin.ts", { args, env: { REDIS_URL: redis.url, ...env } });
  const { code, stdout, stderr } = await program.ended();
  return { code, said: stdout + stderr };
}
async function listed(...args: string[]) {
  const { code, said } = await admin(["list-dead-letters", ...args]);
  expect(code).toBe(0);
  return said
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
const keep = (id: string, body = "[1]", headers: Record<string, string> = {}) => {
  const event = { "ce-specversion": "1.0", "ce-id": id, "ce-source": "/s", "ce-type": "t" };
  const all = new Headers({ ...event, "content-type": "application/json", ...headers });
  const bytes = new TextEncoder().encode(body);
  return createDeadLetters(store).keep(readDeadLetter(all, { bytes, length: bytes.length }));
};

test("without a Redis a command says why, and ends", async () => {
  const ways = ["REDIS_NODES", "REDIS_CLUSTER_NODES"];
  const endings = ways.map((way) =>
    admin(["list-dead-letters"], { REDIS_URL: undefined, [way]: "127.0.0.1:1" }),
  );
  for (const { code, said } of await Promise.all(endings)) {
    expect(code).toBe(1);
    expect(said).toMatch(/^The store cannot serve this now \(.+\)\n$/);
  }
});

test("dead letters are listed, the newest first, with the reason, and their bodies in part", async () => {
  await redis.redis.del("dead-letters");
  expect(await listed()).toEqual([]);
  for (let i = 1; i <= 21; i += 1) await keep(String(i));
  await keep("22", "é".repeat(2_000), {
    "ce-knativeerrorcode": "400",
    "ce-knativeerrordata": btoa("unknown_tenant"),
    "ce-knativeerrordest": "http://audit-ship/",
  });
  const all = await listed();
  expect(all.map(({ attributes }) => Number(attributes.id))).toEqual(
    Array.from({ length: 20 }, (_, i) => 22 - i),
  );
  expect(all[0]).toMatchObject({
    id: expect.stringMatching(/^\d+-\d+$/),
    at: expect.stringMatching(/Z$/),
    class: "refused",
    reason: { code: 400, text: "unknown_tenant", destination: "http://audit-ship/" },
    ...{ content_type: "application/json", bytes: 4_000, cut: false, encoding: "utf-8" },
    body: "é".repeat(1_024),
  });
  expect(await listed("1")).toHaveLength(1);
  expect(await listed("100")).toHaveLength(22);
});

test("a dead letter is sent again as the event that it was, once, and is gone when the sink took it", async () => {
  await redis.redis.del("dead-letters");
  await keep("a", '[ "é" ]', { "ce-knativeerrorcode": "500", "ce-tenantid": "acme" });
  const [{ id }] = await listed();
  const resend = (env: Record<string, string> = { K_SINK: sink.url }) =>
    admin(["resend-dead-letter", id], env);

  expect(await resend({})).toEqual({ code: 1, said: "K_SINK is missing\n" });
  expect(await resend({ K_SINK: "http://127.0.0.1:1/" })).toEqual({
    code: 1,
    said: expect.stringMatching(
      /^The sink did not answer \(.+\): the event may have arrived, and the dead letter is kept\n$/,
    ),
  });
  sink.status = 503;
  expect(await resend()).toEqual({ code: 1, said: "The sink answered 503; the dead letter is kept\n" });
  expect(await listed()).toHaveLength(1);

  sink.status = 202;
  got.length = 0;
  expect(await resend()).toEqual({
    code: 0,
    said: "Sent the event again, attempt 2; the sink answered 202, and the dead letter is gone\n",
  });
  expect(got).toMatchObject([
    {
      body: '[ "é" ]',
      headers: { "ce-id": "a", "ce-tenantid": "acme", "ce-attempt": "2", "content-type": "application/json" },
    },
  ]);
  expect(got[0]?.headers).not.toHaveProperty("ce-knativeerrorcode");
  expect(await listed()).toEqual([]);
  expect(await resend()).toEqual({ code: 1, said: "There is no such dead letter\n" });
  expect(got).toHaveLength(1);
});

test("what is no event is not sent", async () => {
  await keep("a", "oops", { "ce-specversion": "0.3" });
  const [{ id }] = await listed("1");
  expect(await admin(["resend-dead-letter", id], { K_SINK: sink.url })).toEqual({
    code: 1,
    said: "It cannot be sent again: it is no CloudEvent\n",
  });
});

test("a tenant's quarantine is listed in the order of the sequence numbers", async () => {
  expect(await admin(["quarantined", "acme"])).toEqual({ code: 1, said: "There is no such tenant\n" });
  await createTenant(store, "acme");
  expect(await admin(["quarantined", "acme"])).toEqual({ code: 0, said: "" });
  const outbox = createOutbox(store);
  const { outbox: stream } = tenantKeys(tenantTag("acme"));
  const [nine, ten] = [9, 10].map((seq) => entryOf({ tenant_id: "acme", seq })) as [AuditEntry, AuditEntry];
  for (const entry of [nine, ten]) await redis.redis.xadd(stream, streamIdOf(entry), "at", "1");
  for (const entry of [ten, nine])
    expect(await outbox.quarantine("acme", entry, `reason ${entry.seq}`)).toBe(true);
  const { code, said } = await admin(["quarantined", "acme"]);
  expect(code).toBe(0);
  expect(
    said
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toMatchObject([
    { entry: { seq: 9 }, reason: "reason 9", at: expect.stringMatching(/Z$/) },
    { entry: { seq: 10 }, reason: "reason 10" },
  ]);
});

test.each([
  [["list-dead-letters", "0"]],
  [["list-dead-letters", "10001"]],
  [["list-dead-letters", "1", "2"]],
  [["resend-dead-letter"]],
  [["resend-dead-letter", "*"]],
  [["quarantined", "No Such"]],
  [["toString"]],
])("what makes no sense is answered with the usage (%j)", async (args) => {
  const { code, said } = await admin(args);
  expect(code).toBe(1);
  expect(said).toMatch(/^Usage: create-tenant .*resend-dead-letter/s);
});
