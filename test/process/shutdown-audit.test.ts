/** What a pod that is told to stop does with audit entries: it sees them off, within its time. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { readEvent } from "../../shared/events.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  type ProcessTenant,
  send,
  serveFunctions,
  until,
} from "../support/process.ts";

let redis: OwnRedis;
let tenant: ProcessTenant;
let secrets: Record<string, string>;
const servers: Server[] = [];

beforeAll(async () => {
  redis = await ownRedis();
  secrets = await makeSecrets("demo");
  tenant = await createProcessTenant(redis.redis, secrets, "pods");
});
afterEach(() => {
  for (const server of servers.splice(0)) server.closeAllConnections();
});
afterAll(async () => {
  redis.redis.disconnect();
  await cleanUp();
});

/** Somebody who takes one POST, and answers it when told to. */
async function startHolder() {
  const held: { headers: Headers; body: string; response: ServerResponse }[] = [];
  const server = createServer(async (request, response) => {
    const body = await text(request);
    held.push({ headers: new Headers(request.headers as Record<string, string>), body, response });
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    one: () => until("a POST", () => held[0]),
  };
}

const serving = (id: string, env: Record<string, string>) =>
  serveFunctions(id, { REDIS_URL: redis.url, LATCHKEY_MODE: "local", ...secrets, ...env });

test("a function that is told to stop waits for the answer to what it publishes, although nobody calls it any more", async () => {
  const sink = await startHolder();
  const { program, origin } = await serving("all", { K_SINK: sink.url });
  expect((await send(origin, "GET", "/users/me", { as: tenant.token })).status).toBe(200);
  const { headers, body, response } = await sink.one();
  program.kill("SIGTERM");
  await program.says(/"signal":"SIGTERM"/);
  await expect(program.ended(500)).rejects.toThrow("in vain");
  response.writeHead(202).end();
  await once(response, "close");
  expect(response.writableFinished).toBe(true);
  expect((await program.ended()).code).toBe(0);
  expect(readEvent(headers, body)).toMatchObject({ tenantId: "pods", entries: [{ action: "get_user" }] });
});

test("audit-ship that is told to stop during a push settles and answers what has been delivered", async () => {
  const loki = await startHolder();
  const sink = await startHolder();
  const writer = await serving("users-me", { K_SINK: sink.url });
  await send(writer.origin, "GET", "/users/me", { as: tenant.token });
  const event = await sink.one();
  const { program, origin } = await serving("audit-ship", { LOKI_URL: loki.url });
  const headers = Object.fromEntries([...event.headers].filter(([name]) => /^ce-|^content-type$/.test(name)));
  const delivered = fetch(`${origin}/events/audit-ship`, { method: "POST", headers, body: event.body });
  const { response } = await loki.one();
  program.kill("SIGTERM");
  await program.says(/"signal":"SIGTERM"/);
  response.writeHead(204).end();
  expect((await delivered).status).toBe(204);
  expect((await program.ended()).code).toBe(0);
  const [entry] = JSON.parse(event.body);
  const left = await redis.redis.xrange(tenant.keys.outbox, entry.seq, entry.seq);
  expect(left).toEqual([]);
});
