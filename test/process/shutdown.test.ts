/** What a pod does when it is told to stop, and when its Redis goes away. */
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
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
const sockets: Socket[] = [];

beforeEach(async () => {
  redis = await ownRedis();
  secrets = await makeSecrets("demo");
  tenant = await createProcessTenant(redis.redis, secrets, "pods");
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  redis.redis.disconnect();
  await cleanUp();
});

async function serving(env: Record<string, string> = {}) {
  const settings = { REDIS_URL: redis.url, LATCHKEY_MODE: "local", ...secrets, ...env };
  const { program, origin } = await serveFunctions("all", settings);
  await until("readiness", async () => (await send(origin, "GET", "/health/readiness")).status === 200);
  return { program, origin };
}

/** A request whose body arrives as slowly as the test wants: all but its last byte is sent. */
async function slowRequest(origin: string) {
  const body = JSON.stringify({ key: "slow", value: "stored all the same" });
  const head = [
    "POST /data HTTP/1.1",
    "Host: pod",
    `Authorization: Bearer ${tenant.token}`,
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
  ];
  const socket = connect(Number(new URL(origin).port), "127.0.0.1");
  sockets.push(socket);
  const state = { answer: "", closed: false };
  socket.setEncoding("utf8").on("data", (text: string) => {
    state.answer += text;
  });
  socket
    .on("error", () => undefined)
    .on("close", () => {
      state.closed = true;
    });
  socket.write(`${head.join("\r\n")}\r\n\r\n${body.slice(0, -1)}`);
  await until("the request to be under way", async () =>
    /^latchkey_requests_in_flight 1$/m.test((await send(origin, "GET", "/metrics")).text),
  );
  return { state, finish: () => void socket.write(body.slice(-1)) };
}

const readiness = (origin: string): Promise<number | string> =>
  send(origin, "GET", "/health/readiness").then(
    ({ status }) => status,
    (error) => `no answer: ${error.cause?.code}`,
  );

test("after SIGTERM it is not ready any more, and finishes what is under way before it exits with 0", async () => {
  const { program, origin } = await serving();
  const slow = await slowRequest(origin);
  program.kill("SIGTERM");
  await program.says(/"signal":"SIGTERM"/);
  expect(await readiness(origin)).toBe(503);
  expect(slow.state.answer).toBe("");
  slow.finish();
  await until("the answer", () => slow.state.answer.endsWith("}"));
  expect(slow.state.answer).toMatch(/^HTTP\/1\.1 201 /);
  expect((await program.ended()).code).toBe(0);
  expect(await redis.redis.hget(tenant.keys.item("slow"), "value")).toBe('"stored all the same"');
});

test("a request that is not finished by the deadline is cut off, and the exit code says so", async () => {
  const { program, origin } = await serving({ LATCHKEY_SHUTDOWN_SECONDS: "1" });
  const slow = await slowRequest(origin);
  const before = performance.now();
  program.kill("SIGTERM");
  expect((await program.ended(15_000)).code).toBe(1);
  expect(performance.now() - before).toBeGreaterThan(900);
  await until("the connection to be closed", () => slow.state.closed);
  expect(await redis.redis.exists(tenant.keys.item("slow"))).toBe(0);
});

/** Answers to several requests at once: the status and whether the answer keeps to the contract of a 503. */
async function askAround(origin: string) {
  const as = tenant.token;
  const before = performance.now();
  const answers = await Promise.all([
    send(origin, "GET", "/data/a", { as }),
    send(origin, "PUT", "/data/a", { as, json: { value: 2 } }),
    send(origin, "GET", "/users/me", { as }),
    send(origin, "POST", "/token", { json: { username: tenant.username, password: "wrong" } }),
  ]);
  return { answers, seconds: (performance.now() - before) / 1000 };
}

async function expectUnavailable(origin: string, codes: readonly string[]): Promise<void> {
  const { answers, seconds } = await askAround(origin);
  for (const { status, headers, body } of answers) {
    expect([503, codes]).toEqual([status, expect.arrayContaining([body.code])]);
    expect(headers.get("content-type")).toBe("application/problem+json");
    expect(headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
  }
  expect(seconds).toBeLessThan(3);
  expect((await send(origin, "GET", "/health/liveness")).status).toBe(200);
}

async function expectRecovery(origin: string): Promise<void> {
  await until("the answers of a Redis that is back", async () => {
    const { answers } = await askAround(origin);
    return answers.map(({ status }) => status).join() === "200,200,200,401";
  });
}

test("without Redis everybody is answered 503 with Retry-After within 3 s, and served again when it is back", async () => {
  const { program, origin } = await serving();
  await send(origin, "POST", "/data", { as: tenant.token, json: { key: "a", value: 1 } });
  await expectRecovery(origin);
  await redis.kill();
  // At first the loss may not be known yet.
  await expectUnavailable(origin, ["store_unavailable", "outcome_unknown"]);
  await expectUnavailable(origin, ["store_unavailable"]);
  await redis.start();
  await expectRecovery(origin);
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
});

test("a Redis that hangs without closing its connections counts as gone", async () => {
  const { origin } = await serving();
  await send(origin, "POST", "/data", { as: tenant.token, json: { key: "a", value: 1 } });
  redis.signal("SIGSTOP");
  await expectUnavailable(origin, ["outcome_unknown"]);
  await expectUnavailable(origin, ["store_unavailable", "outcome_unknown"]);
  redis.signal("SIGCONT");
  await expectRecovery(origin);
});

test("it ends in time although Redis is gone", async () => {
  const { program } = await serving({ LATCHKEY_SHUTDOWN_SECONDS: "2" });
  await redis.kill();
  program.kill("SIGTERM");
  expect((await program.ended(15_000)).code).toBe(0);
});

test("it starts without Redis, is alive but not ready, and becomes ready when Redis comes", async () => {
  await redis.kill();
  const env = { REDIS_URL: redis.url, LATCHKEY_MODE: "local", ...secrets };
  const { origin } = await serveFunctions("data-get", env);
  expect((await send(origin, "GET", "/health/liveness")).status).toBe(200);
  expect(await readiness(origin)).toBe(503);
  await redis.start();
  await until("readiness", async () => (await readiness(origin)) === 200);
});
