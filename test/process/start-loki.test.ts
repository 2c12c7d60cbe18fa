/** `npm start` with a Loki: the whole pipeline in one process, which is its own broker. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { realLoki, startLoki, type TestLoki } from "../support/loki.ts";
import { lokiTools } from "../support/loki-tools.ts";
import {
  cleanUp,
  connectTo,
  logIn,
  type Program,
  processesIn,
  runScript,
  send,
  temporaryFolder,
  until,
} from "../support/process.ts";

let loki: TestLoki;
let program: Program;
let origin: string;
const folder = temporaryFolder();

beforeAll(async () => {
  loki = await startLoki();
  const env = { PORT: "0", LOKI_URL: loki.url };
  program = runScript("shared/node/dev/start.ts", { cwd: folder, env });
  [, origin = ""] = await program.says(/answers at (http:\S+\d)\b/);
});
afterAll(async () => {
  await cleanUp();
  await loki.stop();
});

test.skipIf(realLoki() !== "loki on the PATH")(
  "a loki on the PATH is started with it and ends with it, also when Ctrl-C comes while it starts (skipped: no loki there)",
  async () => {
    const own = temporaryFolder();
    const env = { PORT: "0", PATH: process.env["PATH"] };
    for (const moment of ["while it starts", "when it runs"]) {
      const started = runScript("shared/node/dev/start.ts", { cwd: own, env });
      if (moment === "when it runs") await started.says(/audit trail goes to the Loki/);
      else await until("loki to be started", () => processesIn(own).length > 2);
      started.kill("SIGINT");
      expect((await started.ended()).code).toBe(0);
      await until("all of it to end", () => processesIn(own).length === 0);
    }
  },
);

test("what a killed run has left behind reaches Loki soon after the next start", async () => {
  const own = temporaryFolder();
  const start = async () => {
    const env = { PORT: "0", LOKI_URL: loki.url };
    const program = runScript("shared/node/dev/start.ts", { cwd: own, env });
    const [, url = ""] = await program.says(/answers at (http:\S+\d)\b/);
    return { program, url };
  };
  const killed = await start();
  const as = (await logIn(killed.url, "user2", "secret")).body.access_token;
  await send(killed.url, "GET", "/users/me", { as });
  killed.program.kill("SIGKILL");
  await killed.program.ended();
  await start();
  const { seqs } = lokiTools(loki.url).tenant("tenant2");
  await expect.poll(() => seqs()).toEqual([2, 1]);
});

test("it says where the audit trail goes", async () => {
  await program.says(new RegExp(`The audit trail goes to the Loki at ${loki.url}`));
});

test("what happens reaches Loki, leaves the outbox, and the original's queries find it", async () => {
  const as = (await logIn(origin, "admin", "secret")).body.access_token;
  const key = (await send(origin, "POST", "/api-keys", { as, json: { name: "a" } })).body.key_value;
  await send(origin, "POST", "/data", { as: key, json: { key: "a", value: 1 } });
  await send(origin, "GET", "/data/a", { as: key });
  await send(origin, "PUT", "/data/a", { as: key, json: { value: 2 } });
  await send(origin, "DELETE", "/data/a", { as: key });
  const tenant = lokiTools(loki.url).tenant("tenant1");
  await expect.poll(() => tenant.seqs()).toEqual([6, 5, 4, 3, 2, 1]);

  expect(await tenant.seqs('{job="audit_logs", tenant_id="tenant1"}')).toHaveLength(6);
  for (const action of ["create_key", "get_key", "update_key", "delete_key", "create_api_key"]) {
    const query = `{job="audit_logs", tenant_id="tenant1", action="${action}"}`;
    expect([action, await tenant.seqs(query)]).toEqual([action, [expect.any(Number)]]);
  }
  const redis = connectTo(`${folder}/.latchkey/redis`);
  await expect.poll(() => redis.keys("*:pending")).toEqual([]);
  redis.disconnect();
  const { body } = await send(origin, "GET", "/audit", { as });
  expect(body.data.map(({ seq }: { seq: number }) => seq)).toEqual([6, 5, 4, 3, 2, 1]);
});
