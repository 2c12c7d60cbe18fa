/** `node shared/node/admin.ts`: the first tenant and user of an installation, and that production wants no demo users. */
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { DEMO_KEY } from "../../shared/redis/keys.ts";
import {
  cleanUp,
  logIn,
  type OwnRedis,
  ownRedis,
  repository,
  runScript,
  serveFunctions,
} from "../support/process.ts";

let redis: OwnRedis;
beforeAll(async () => {
  redis = await ownRedis(["--appendonly", "no"]);
});
afterAll(async () => {
  redis.redis.disconnect();
  await cleanUp();
});

const PASSWORD = "a long enough password";
function admin(args: readonly string[], input = "") {
  const { status, stdout, stderr } = spawnSync("node", ["shared/node/admin.ts", ...args], {
    cwd: repository,
    env: { ...process.env, REDIS_URL: redis.url },
    input,
    encoding: "utf8",
    timeout: 20_000,
  });
  return { status, said: stdout + stderr };
}
const production = async (mark: string) => ({
  ...(await makeSecrets(mark)),
  REDIS_URL: redis.url,
  PORT: "0",
});

test("a tenant and a user are created, once, and the user can log in where production serves", async () => {
  expect(admin(["create-user", "acme", "ada", "admin"], PASSWORD)).toEqual({
    status: 1,
    said: "There is no such tenant\n",
  });
  expect(admin(["create-tenant", "acme"])).toEqual({ status: 0, said: "Created the tenant acme\n" });
  expect(admin(["create-tenant", "acme"])).toEqual({ status: 1, said: "The tenant exists already\n" });
  expect(admin(["create-user", "acme", "ada", "admin"], `${PASSWORD}\n`)).toMatchObject({ status: 0 });
  expect(admin(["create-user", "acme", "ada", "user"], PASSWORD)).toEqual({
    status: 1,
    said: "The username is taken\n",
  });

  const { program, origin } = await serveFunctions("all", await production("real"));
  expect((await logIn(origin, "ada", PASSWORD)).status).toBe(200);
  program.kill("SIGTERM");
  expect((await program.ended()).code).toBe(0);
});

test.each([
  [[], /^Usage: create-tenant/],
  [["create-tenant", "No Such"], /^Usage/],
  [["create-user", "acme", "bob", "root"], /^Usage/],
])("what makes no sense is answered with the usage (%j)", (args, said) => {
  const { status, said: answer } = admin(args);
  expect(status).toBe(1);
  expect(answer).toMatch(said);
});

test("a password of less than 8 characters is refused", () => {
  expect(admin(["create-tenant", "short"]).status).toBe(0);
  expect(admin(["create-user", "short", "carl", "user"], "short")).toEqual({
    status: 1,
    said: "The password has fewer than 8 characters\n",
  });
});

test("production refuses a store with demo users", async () => {
  await redis.redis.set(DEMO_KEY, "complete");
  const program = runScript("shared/node/main.ts", { args: ["all"], env: await production("real") });
  const { code, stderr } = await program.ended();
  expect([code, stderr]).toEqual([
    1,
    "This Redis holds the demo users of npm start, which production refuses.\n",
  ]);
  await redis.redis.del(DEMO_KEY);
});
