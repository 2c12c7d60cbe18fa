/** `npm start` and the Loki of its folder: whose it is, and whom it ends. With a program that only answers in place of Loki. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  cleanUp,
  type OwnRedis,
  ownRedis,
  type Program,
  processesIn,
  runScript,
  send,
  temporaryFolder,
  until,
} from "../support/process.ts";

const ANSWERING = `#!/usr/bin/env node
require("node:http").createServer((_, answer) => answer.end("ready")).listen(process.env.LOKI_HTTP_PORT, "127.0.0.1");
`;

let redis: OwnRedis;
let path: string;
const others: ChildProcess[] = [];
beforeAll(async () => {
  redis = await ownRedis(["--appendonly", "no"]);
  const bin = temporaryFolder();
  writeFileSync(join(bin, "loki"), ANSWERING, { mode: 0o755 });
  path = `${bin}:${join(import.meta.dirname, "../../node_modules/.bin")}:${process.env["PATH"]}`;
});
afterAll(async () => {
  for (const other of others) other.kill("SIGKILL");
  redis.redis.disconnect();
  await cleanUp();
});

const start = (folder: string): Program =>
  runScript("shared/node/dev/start.ts", {
    cwd: folder,
    env: { PORT: "0", REDIS_URL: redis.url, PATH: path },
  });
const lokiOf = async (program: Program) => (await program.says(/goes to the Loki at (\S+\d)\./))[1];
const noteOf = (folder: string) =>
  JSON.parse(readFileSync(join(folder, ".latchkey/loki/running.json"), "utf8"));
/** Ctrl-C, and all that worked in the folder ends. */
async function stop(program: Program, folder: string): Promise<void> {
  program.kill("SIGINT");
  expect((await program.ended()).code).toBe(0);
  await until("all of it to end", () => processesIn(folder).length === 0);
}

test("a run that was killed leaves its Loki to the next one, which ends it", async () => {
  const folder = temporaryFolder();
  const killed = start(folder);
  const url = await lokiOf(killed);
  killed.kill("SIGKILL");
  await killed.ended();
  const { pid } = noteOf(folder);
  const next = start(folder);
  expect([await lokiOf(next), noteOf(folder).pid]).toEqual([url, pid]);
  await stop(next, folder);
});

test("a process that has got the id of an earlier Loki is not ended, nor is a Loki that somebody else has started there", async () => {
  const folder = temporaryFolder();
  const other = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
  others.push(other);
  const server = createServer((_, answer) => answer.end("ready")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  mkdirSync(join(folder, ".latchkey/loki"), { recursive: true });
  const note = (text: string) => writeFileSync(join(folder, ".latchkey/loki/running.json"), text);

  note(JSON.stringify({ url, pid: other.pid, started: "1" }));
  const guest = start(folder);
  expect(await lokiOf(guest)).toBe(url);
  await stop(guest, folder);
  expect((await send(url, "GET", "/ready")).text).toBe("ready");

  server.close();
  server.closeAllConnections();
  for (const text of [JSON.stringify({ url, pid: other.pid, started: "1" }), "{"]) {
    note(text);
    const owner = start(folder);
    expect(await lokiOf(owner)).not.toBe(url);
    await stop(owner, folder);
  }
  expect([other.exitCode, other.signalCode]).toEqual([null, null]);
});

test("a second run in the folder is told how to share the first one's Loki, and takes nothing along", async () => {
  const folder = temporaryFolder();
  const first = start(folder);
  const url = await lokiOf(first);
  const { code, stderr } = await start(folder).ended();
  expect([code, stderr]).toEqual([
    1,
    `Another Latchkey is running in this folder; stop it first, or share its Loki: LOKI_URL=${url}.\n`,
  ]);
  expect((await send(url ?? "", "GET", "/ready")).text).toBe("ready");
  await stop(first, folder);
});
