/** `npm run contract`: the suite against an API that it knows by its address alone. */
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { createPasswordHasher } from "../../shared/node/passwords.ts";
import { createStore } from "../../shared/redis/store.ts";
import { createUser } from "../../shared/redis/tenants.ts";
import { cleanUp, createProcessTenant, ownRedis, PASSWORD, runScript } from "../support/process.ts";

let origin: string;
let redis: Redis;
/** Who may use it, as an operator would say. */
const users: Record<string, string> = {};

beforeAll(async () => {
  const own = await ownRedis(["--appendonly", "no"]);
  redis = own.redis;
  const secrets = await makeSecrets("demo");
  const passwordHash = await createPasswordHasher(1).hash(PASSWORD, "tests");
  for (const number of [1, 2]) {
    const { id, username: admin } = await createProcessTenant(redis, secrets, `t-${randomUUID()}`);
    const username = `user@${id}`;
    await createUser(createStore(redis, { minReplicas: 0 }), id, { username, passwordHash, role: "user" });
    users[`CONTRACT_ADMIN_${number}`] = `${admin}:${PASSWORD}`;
    users[`CONTRACT_USER_${number}`] = `${username}:${PASSWORD}`;
  }
  const env = { LATCHKEY_MODE: "local", PORT: "0", REDIS_URL: own.url, ...secrets };
  const [, port] = await runScript("shared/node/main.ts", { args: ["all"], env }).says(/"port":(\d+)/);
  origin = `http://127.0.0.1:${port}`;
});
afterAll(async () => {
  redis.disconnect();
  await cleanUp();
});

/** Items of all tenants. */
const stored = () => redis.keys("*:item:*");

const contract = (args: string[], env: Record<string, string> = users) =>
  runScript("test/contract.ts", { args, env: { NO_COLOR: "1", ...env } }).ended(60_000);

test("it passes, says of each test that it skips what it would need, and leaves nothing behind", async () => {
  const before = await stored();
  const { code, stdout } = await contract(["--url", origin, "data-create", "data-delete", "users-me"]);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/Tests {2}\d+ passed \| \d+ skipped/)]);
  expect(stdout).toMatch(/✓ .* an item that exists: 409, and it stays as it was/);
  expect(stdout).toMatch(/↓ .* the role is the one of now.* \[looks into the store\]/);
  expect(stdout).toMatch(
    /↓ .* a value may have just the size.* \[needs other settings: LATCHKEY_VALUE_MAX_BYTES\]/,
  );
  expect(await stored()).toEqual(before);
});

test("an API that is another one does not pass", async () => {
  const { code, stdout, stderr } = await contract(["--url", `${origin}`], {
    ...users,
    CONTRACT_USER_1: "nobody:secret",
  });
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^CONTRACT_USER_1 cannot log in: 401 .*\n$/)]);
  // It was tried once, and not by every file.
  expect(stdout).toBe("");
  const notPair = await contract(["--url", origin], { ...users, CONTRACT_USER_2: "nobody" });
  expect(notPair).toMatchObject({ code: 1, stderr: "CONTRACT_USER_2 is not <username>:<password>\n" });
  const away = await contract(["--url", "http://127.0.0.1:1"]);
  expect(away).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^http:\/\/127\.0\.0\.1:1 does not answer: .+\n$/),
  });
});

test("without an address or a user it says what is missing", async () => {
  for (const args of [[], ["--url"], ["--nonsense"]])
    expect(await contract(args)).toMatchObject({ code: 1, stderr: expect.stringMatching(/^Usage: .+\n$/) });
  const { CONTRACT_USER_2: _, ...others } = users;
  const { code, stderr } = await contract(["--url", origin], others);
  expect([code, stderr]).toEqual([1, expect.stringContaining("Not set: CONTRACT_USER_2")]);
});
