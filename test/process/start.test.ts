/** `npm start` as somebody on a laptop meets it: what it promises when all is well. */
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { DEMO_KEY } from "../../shared/redis/keys.ts";
import {
  cleanUp,
  connectTo,
  logIn,
  ownRedis,
  type Program,
  processesIn,
  repository,
  run,
  runScript,
  send,
  temporaryFolder,
  until,
} from "../support/process.ts";

const { scripts } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
const [, script = ""] = /^node (\S+)$/.exec(scripts.start) ?? [];

afterEach(cleanUp);

const start = (folder: string, env: Record<string, string> = {}): Program =>
  runScript(script, { cwd: folder, env: { PORT: "0", ...env } });

/** Start and wait until it serves. */
async function started(folder: string, env: Record<string, string> = {}) {
  const program = start(folder, env);
  const [, origin = ""] = await program.says(/answers at (http:\S+\d)\b/);
  return { program, origin };
}

async function tokenOf(origin: string, username: string): Promise<string> {
  const { status, body } = await logIn(origin, username, "secret");
  expect(status).toBe(200);
  return body.access_token;
}

const redisFolder = (folder: string) => join(folder, ".latchkey/redis");
async function redisPid(folder: string): Promise<number> {
  const redis = connectTo(redisFolder(folder));
  const info = await redis.info("server");
  redis.disconnect();
  return Number(/process_id:(\d+)/.exec(info)?.[1]);
}

test("it prints its address, and the demo users log in with the printed password", async () => {
  const { program, origin } = await started(temporaryFolder());
  await program.says(/password: secret\n/);
  for (const [username, tenant_id, role] of [
    ["admin", "tenant1", "admin"],
    ["user1", "tenant1", "user"],
    ["user2", "tenant2", "user"],
  ] as const) {
    const me = await send(origin, "GET", "/users/me", { as: await tokenOf(origin, username) });
    expect(me.body).toMatchObject({ username, tenant_id, role });
  }
  expect((await logIn(origin, "admin", "Secret")).status).toBe(401);
});

test("the printed commands run unchanged in a strict shell, and each does what its title says", async () => {
  const folder = temporaryFolder();
  const { program } = await started(folder);
  const [, commands = ""] = await program.says(/another shell:\n\n([\s\S]+# See it all[^\n]*\n[^\n]+\n)/);
  const file = join(folder, "walkthrough.sh");
  writeFileSync(file, commands);

  // -v repeats each line before it runs, so that every answer stands below its title.
  const shell = run("bash", ["-c", 'exec bash -euv -o pipefail "$0" 2>&1', file], { cwd: folder });
  const { code, stdout } = await shell.ended();
  expect(code, stdout).toBe(0);
  const printed = new Set(commands.split("\n"));
  const answers = Object.fromEntries(
    stdout.split(/^# /m).map((section) => {
      const [title = "", ...lines] = section.split("\n");
      const answer = lines.filter((line) => !printed.has(line)).join("\n");
      return [title, answer === "" ? undefined : JSON.parse(answer)];
    }),
  );
  expect(answers).toMatchObject({
    "Log in": undefined,
    "Who am I?": { username: "admin", tenant_id: "tenant1" },
    "Create an API key; its text is shown this once": undefined,
    "Use it: store an item": { key: "greeting", version: 1, ttl: 3600 },
    "… and read it": { key: "greeting", value: { text: "hello" } },
    "… and delete it": undefined,
    "List the keys": { data: [{ name: "my program", enabled: true }], next_cursor: null },
    "Delete the key": undefined,
    "It is refused at once": { status: 401, code: "invalid_token" },
  });
  const story = answers["See it all in the audit trail"].data.reverse();
  expect(story.map(({ action, outcome }: { action: string; outcome: string }) => [action, outcome])).toEqual([
    ["login_success", "success"],
    ["get_user", "success"],
    ["create_api_key", "success"],
    ["create_key", "success"],
    ["get_key", "success"],
    ["delete_key", "success"],
    ["list_api_keys", "success"],
    ["list_api_keys", "success"],
    ["delete_api_key", "success"],
    ["get_key", "denied"],
  ]);
});

test("a second run keeps the data, tokens, keys and audit trail of the first", async () => {
  const folder = temporaryFolder();
  const first = await started(folder);
  const token = await tokenOf(first.origin, "admin");
  const key = await send(first.origin, "POST", "/api-keys", { as: token, json: { name: "kept" } });
  const item = await send(first.origin, "POST", "/data", { as: token, json: { key: "a", value: 1 } });
  first.program.kill("SIGINT");
  await first.program.ended();

  const second = await started(folder);
  const read = await send(second.origin, "GET", "/data/a", { as: key.body.key_value });
  expect([read.status, read.body]).toEqual([200, item.body]);
  const audit = await send(second.origin, "GET", "/audit", { as: token });
  expect(audit.body.data.map(({ seq }: { seq: number }) => seq)).toEqual([4, 3, 2, 1]);
  await tokenOf(second.origin, "user2");
});

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s ends it and its redis-server, with exit code 0",
  async (sig) => {
    const folder = temporaryFolder();
    const { program } = await started(folder);
    expect(processesIn(folder)).toHaveLength(2);
    program.kill(sig);
    expect(await program.ended()).toMatchObject({ code: 0, stderr: "" });
    expect(processesIn(folder)).toEqual([]);
  },
);

test.each([
  ["when redis-server has just been started", (folder: string) => processesIn(folder).length === 2],
  [
    "while the demo users are being made",
    async (folder: string) => {
      const redis = connectTo(redisFolder(folder));
      const state = await redis.get(DEMO_KEY);
      redis.disconnect();
      return state !== null;
    },
  ],
] as const)("Ctrl-C %s leaves nothing running", async (_, isMoment) => {
  const folder = temporaryFolder();
  const program = start(folder);
  await until("the moment", () => isMoment(folder));
  program.kill("SIGINT");
  await program.ended();
  expect(processesIn(folder)).toEqual([]);
});

test("an impatient second Ctrl-C, while a request is still under way, leaves nothing running either", async () => {
  const folder = temporaryFolder();
  const { program, origin } = await started(folder);
  const client = connect(Number(new URL(origin).port), "127.0.0.1");
  client.on("error", () => undefined);
  client.write(
    "POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
  );
  await until("the request to be under way", async () =>
    /^latchkey_requests_in_flight 1$/m.test((await send(origin, "GET", "/metrics")).text),
  );
  program.kill("SIGINT");
  await program.says(/Stopping/);
  program.kill("SIGINT");
  // Long before the request's time to finish is over.
  expect((await program.ended(15_000)).code).toBe(1);
  await until("redis-server to save and end", () => processesIn(folder).length === 0);
  client.destroy();
});

test("a second run in the same folder refuses in one sentence and does not harm the first", async () => {
  const folder = temporaryFolder();
  const { program, origin } = await started(folder);
  const before = await redisPid(folder);
  const { code, stderr } = await start(folder).ended();
  expect(code).toBe(1);
  expect(stderr).toMatch(/^Another Latchkey is running in this folder[^\n]*\n$/);
  expect(await redisPid(folder)).toBe(before);
  await tokenOf(origin, "admin");
  program.kill("SIGINT");
  expect(await program.ended()).toMatchObject({ code: 0 });
});

test("of two runs that begin in one folder at the same moment, one serves and the other refuses", async () => {
  const folder = temporaryFolder();
  const both = [start(folder), start(folder)];
  const loser = await until("one to refuse", () => both.find((one) => !one.isRunning()));
  const { code, stderr } = await loser.ended();
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^[^\n]*running in this folder[^\n]*\n$/)]);
  const winner = both.find((one) => one !== loser) as Program;
  const [, origin = ""] = await winner.says(/answers at (http:\S+\d)\b/);
  await tokenOf(origin, "admin");
  expect(processesIn(folder)).toHaveLength(2);
});

test("after kill -9 the next run takes over the redis-server that is left, with everything in it", async () => {
  const folder = temporaryFolder();
  const first = await started(folder);
  const token = await tokenOf(first.origin, "admin");
  await send(first.origin, "POST", "/data", { as: token, json: { key: "a", value: "kept" } });
  const left = await redisPid(folder);
  first.program.kill("SIGKILL");
  await first.program.ended();
  expect(processesIn(folder)).toEqual([left]);

  const { program, origin } = await started(folder);
  expect(await redisPid(folder)).toBe(left);
  expect((await send(origin, "GET", "/data/a", { as: token })).body.value).toBe("kept");
  program.kill("SIGINT");
  expect(await program.ended()).toMatchObject({ code: 0 });
  expect(processesIn(folder)).toEqual([]);
});

test("a store that holds something else gets no demo users, and is left running", async () => {
  const store = await ownRedis(["--appendonly", "no"]);
  await store.redis.set("somebody's", "data");
  const { program, origin } = await started(temporaryFolder(), { REDIS_URL: store.url });
  expect((await logIn(origin, "admin", "secret")).status).toBe(401);
  await program.says(/^No demo users are made: this Redis was not empty\.$/m);
  expect(program.stdout()).not.toContain("secret");
  program.kill("SIGINT");
  expect(await program.ended()).toMatchObject({ code: 0 });
  expect(await store.redis.get("somebody's")).toBe("data");
  expect(await store.redis.exists(DEMO_KEY)).toBe(0);
  store.redis.disconnect();
});
