/** What a running process tells about itself: its log and its metrics. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  PASSWORD,
  type ProcessTenant,
  type Program,
  send,
  serveFunctions,
  until,
} from "../support/process.ts";

const VALUE = "the-value-of-an-item";
const WRONG_PASSWORD = "not-the-password";
const IN_QUERY = "text-in-a-query";

let redis: OwnRedis;
let secrets: Record<string, string>;
let tenants: [ProcessTenant, ProcessTenant];
let program: Program;
let origin: string;
let keyText: string;
let issued: string;
/** Every request that was sent: what the log has to say about it. */
const sent: { function: string; request_id: string; status: number; tenant?: string }[] = [];

async function ask(
  id: string,
  tenant: ProcessTenant | undefined,
  status: number,
  request: Parameters<typeof send> extends [string, ...infer Rest] ? Rest : never,
) {
  const [method, path, options = {}] = request;
  const request_id = `request-${sent.length}`;
  const headers = { ...options.headers, "x-request-id": request_id };
  const answer = await send(origin, method, path, { ...options, headers });
  expect([method, path, answer.status]).toEqual([method, path, status]);
  sent.push({ function: id, request_id, status, ...(tenant === undefined ? {} : { tenant: tenant.id }) });
  return answer;
}

beforeAll(async () => {
  redis = await ownRedis(["--appendonly", "no"]);
  secrets = await makeSecrets("demo");
  tenants = [
    await createProcessTenant(redis.redis, secrets, "one"),
    await createProcessTenant(redis.redis, secrets, "two"),
  ];
  const settings = { LATCHKEY_LOGIN_MAX_FAILURES: "2", LATCHKEY_LOG_LEVEL: "debug" };
  const env = { REDIS_URL: redis.url, LATCHKEY_MODE: "local", ...settings, ...secrets };
  ({ program, origin } = await serveFunctions("all", env));
  await traffic();
});
afterAll(async () => {
  redis.redis.disconnect();
  await cleanUp();
});

/** Successes, refusals and mistakes, with secrets in every place where people put them. */
async function traffic(): Promise<void> {
  const [one, two] = tenants;
  const as = one.token;
  issued = (
    await ask("token-issue", one, 200, [
      "POST",
      "/token",
      { json: { username: one.username, password: PASSWORD } },
    ])
  ).body.access_token;
  keyText = (await ask("api-keys-create", one, 201, ["POST", "/api-keys", { as, json: { name: "a" } }])).body
    .key_value;
  await ask("data-create", one, 201, ["POST", "/data?key=in-query", { as: keyText, json: { value: VALUE } }]);
  await ask("data-create", one, 409, ["POST", "/data?key=in-query", { as, json: { value: VALUE } }]);
  await ask("data-get", one, 200, ["GET", "/data/in-query", { headers: { "x-api-key": keyText } }]);
  await ask("data-get", two, 404, ["GET", "/data/in-query", { as: two.token }]);
  await ask("data-get", two, 404, ["GET", "/data/in-query", { as: two.token }]);
  await ask("users-me", undefined, 401, ["GET", "/users/me", { as: `${as}x` }]);
  await ask("users-me", undefined, 401, ["GET", "/users/me", { as: `${keyText}x` }]);
  await ask("data-get", one, 400, ["GET", `/data/a?access_token=${IN_QUERY}`, { as }]);
  const json = { "content-type": "application/json" };
  await ask("data-create", one, 400, ["POST", "/data", { as, raw: `{"value": "${VALUE}`, headers: json }]);
  await ask("data-create", one, 422, ["POST", "/data", { as, json: { key: "b", value: 1, [VALUE]: VALUE } }]);
  for (const status of [401, 401, 429]) {
    await ask("token-issue", status === 401 ? two : undefined, status, [
      "POST",
      "/token",
      { json: { username: two.username, password: WRONG_PASSWORD } },
    ]);
  }
  await ask("token-issue", undefined, 401, [
    "POST",
    "/token",
    { json: { username: "nobody", password: WRONG_PASSWORD } },
  ]);
}

test("every request leaves one JSON line with function, request id, tenant, status and duration", async () => {
  await program.says(new RegExp(`"request_id":"${sent.at(-1)?.request_id}"`));
  const lines = program
    .stdout()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const requests = lines.filter((line) => line.request_id?.startsWith("request-"));
  expect(
    requests.map(({ function: id, request_id, tenant, status }) => ({
      function: id,
      request_id,
      status,
      ...(tenant === undefined ? {} : { tenant }),
    })),
  ).toEqual(sent);
  for (const { duration_ms, time, level } of requests) {
    expect(duration_ms).toBeGreaterThan(0);
    expect(duration_ms).toBeLessThan(10_000);
    expect([typeof time, typeof level]).toEqual(["number", "number"]);
  }
});

test("a request that no function serves is logged and counted as well", async () => {
  const { status } = await send(origin, "GET", `/nowhere?api_key=${IN_QUERY}`, {
    headers: { "x-request-id": "nowhere" },
  });
  expect(status).toBe(404);
  expect(await metric("latchkey_requests_total")).toMatchObject({ 'function="none",status="404"': 1 });
  await program.says(/"function":"none","request_id":"nowhere","status":404/);
});

test("no credential, item value or query string stands in the log", () => {
  const said = program.stdout();
  const privateKey = JSON.parse(secrets["LATCHKEY_JWT_PRIVATE_KEY"] ?? "").d as string;
  const [, pepper = ""] = (secrets["LATCHKEY_API_KEY_PEPPERS"] ?? "").split(":");
  const credentials = [...tenants.map(({ token }) => token), keyText, issued, PASSWORD, WRONG_PASSWORD];
  for (const secret of [...credentials, privateKey, pepper, VALUE, IN_QUERY, "?key=", "api_key="]) {
    expect(secret).not.toBe("");
    expect(said.includes(secret), `the log holds ${secret.slice(0, 12)}…`).toBe(false);
  }
});

/** The samples of a metric, `{labels: value}`. */
async function metric(name: string): Promise<Record<string, number>> {
  const { text } = await send(origin, "GET", "/metrics");
  const samples = text.matchAll(new RegExp(`^${name}(?:\\{(.*)\\})? (\\S+)$`, "gm"));
  return Object.fromEntries([...samples].map(([, labels = "", value]) => [labels, Number(value)]));
}

test("requests are counted by function and status", async () => {
  const expected: Record<string, number> = {};
  for (const { function: id, status } of sent) {
    const labels = `function="${id}",status="${status}"`;
    expected[labels] = (expected[labels] ?? 0) + 1;
  }
  expect(await metric("latchkey_requests_total")).toMatchObject(expected);
  const durations = await metric("latchkey_request_duration_seconds_count");
  expect(durations['function="token-issue"']).toBe(5);
  expect(await metric("latchkey_requests_in_flight")).toEqual({ "": 0 });
});

test("failed logins are counted by reason", async () => {
  expect(await metric("latchkey_login_failures_total")).toEqual({
    'reason="wrong_password"': 2,
    'reason="user_unknown"': 1,
    'reason="too_many_attempts"': 1,
  });
});

test("the time of Redis is measured for each script", async () => {
  const counts = await metric("latchkey_redis_duration_seconds_count");
  expect(counts).toMatchObject({ 'script="create-item"': 2, 'script="get-item"': 3 });
  const sums = await metric("latchkey_redis_duration_seconds_sum");
  for (const sum of Object.values(sums)) expect(sum).toBeGreaterThan(0);
});

test("problems are counted by function and code", async () => {
  expect(await metric("latchkey_problems_total")).toMatchObject({
    'function="data-create",code="already_exists"': 1,
    'function="users-me",code="invalid_token"': 2,
    'function="token-issue",code="too_many_attempts"': 1,
  });
});

test("the process tells how long it took until it was ready", async () => {
  const { "": seconds } = await metric("latchkey_ready_seconds");
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThan(60);
});

test("what waits in the outboxes: all entries, the most of one tenant, the limit, and the age of the oldest", async () => {
  const lengths = await Promise.all(tenants.map(({ keys }) => redis.redis.xlen(keys.outbox)));
  const [ofOne = 0, ofTwo = 0] = lengths;
  expect(Math.min(ofOne, ofTwo)).toBeGreaterThan(0);
  expect(await metric("latchkey_outbox_entries")).toEqual({ "": ofOne + ofTwo });
  expect(await metric("latchkey_outbox_largest_entries")).toEqual({ "": Math.max(ofOne, ofTwo) });
  expect(await metric("latchkey_outbox_limit_entries")).toEqual({ "": 1_000_000 });

  const { keys, id } = tenants[0];
  await redis.redis.zadd(keys.pending, Date.now() - 3_600_000, id);
  const { "": age = 0 } = await metric("latchkey_outbox_oldest_seconds");
  expect(age).toBeGreaterThanOrEqual(3_600);
  expect(age).toBeLessThan(3_660);
});

test("while Redis cannot be asked there is no number of what waits in it, rather than a wrong one", async () => {
  await redis.kill();
  await until("the gauge to go", async () => !("" in (await metric("latchkey_outbox_entries"))));
  expect(await metric("latchkey_outbox_oldest_seconds")).toEqual({});
  expect(await metric("latchkey_requests_in_flight")).toEqual({ "": 0 });
});
