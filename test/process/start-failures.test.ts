/** `npm start` when something is wrong: one sentence to act on, a non-zero exit, and nothing left running. */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import {
  cleanUp,
  type Ended,
  logIn,
  processesIn,
  repository,
  runScript,
  send,
  temporaryFolder,
} from "../support/process.ts";

const { scripts } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
const [, script = ""] = /^node (\S+)$/.exec(scripts.start) ?? [];

const listeners: Server[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) listener.close();
  await cleanUp();
});

const start = (folder: string, env: Record<string, string> = {}) =>
  runScript(script, { cwd: folder, env: { PORT: "0", ...env } });

async function started(folder: string) {
  const program = start(folder);
  const [, origin = ""] = await program.says(/answers at (http:\S+\d)\b/);
  return { program, origin };
}

/** A port on which somebody else listens, and never says a word. */
async function takenPort(): Promise<number> {
  const server = createServer();
  listeners.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

/** What was said on standard error, which must be one line for a person; the exit must be a failure. */
function sentenceOf({ code, stderr }: Ended): string {
  expect(stderr).toMatch(/^[A-Z\w][^\n]{10,300}\n$/);
  expect(stderr).not.toMatch(/undefined|\[object|Error:/);
  expect(code).toBe(1);
  return stderr;
}

test("a busy port is named in one sentence", async () => {
  const folder = temporaryFolder();
  const port = await takenPort();
  const sentence = sentenceOf(await start(folder, { PORT: String(port) }).ended());
  expect(sentence).toContain(`Port ${port} is in use`);
  expect(processesIn(folder)).toEqual([]);
});

test("a Redis at REDIS_URL that is not there, or never answers, is given up", async () => {
  const folder = temporaryFolder();
  const silent = `redis://:hunter2@127.0.0.1:${await takenPort()}`;
  const urls = [silent, "redis://127.0.0.1:1", `unix://${folder}/no.sock`];
  const programs = urls.map((REDIS_URL) => start(folder, { REDIS_URL }));
  for (const program of programs) {
    const ended = await program.ended();
    expect(sentenceOf(ended)).toMatch(/^The Redis at REDIS_URL does not answer/);
    expect(ended.stdout + ended.stderr).not.toContain("hunter2");
  }
  expect(processesIn(folder)).toEqual([]);
});

test("unknown variables and bad values are all named at once, and no value is shown", async () => {
  const folder = temporaryFolder();
  const { code, stdout, stderr } = await start(folder, {
    PORT: "70001",
    LATCHKEY_COLOUR: "value-one",
    LATCHKEY_LOG_LEVEL: "value-two",
    LATCHKEY_API_KEY_PEPPERS: "value-three",
    LATCHKEY_JWT_PRIVATE_KEY: "value-four",
  }).ended();
  expect(code).toBe(1);
  for (const name of ["COLOUR", "LOG_LEVEL", "API_KEY_PEPPERS", "JWT_PRIVATE_KEY"]) {
    expect(stderr).toMatch(new RegExp(`^LATCHKEY_${name}: .+`, "m"));
  }
  expect(stderr).toMatch(/^PORT: .+/m);
  expect(stdout + stderr).not.toMatch(/value-|70001|^ +at /m);
  expect(processesIn(folder)).toEqual([]);
});

test("the death of redis-server ends it", async () => {
  const folder = temporaryFolder();
  const { program } = await started(folder);
  const redis = processesIn(folder).find((pid) => pid !== program.pid) as number;
  process.kill(redis, "SIGKILL");
  expect(sentenceOf(await program.ended())).toMatch(/^redis-server stopped/);
  expect(processesIn(folder)).toEqual([]);
});

test("the death of a redis-server that it took over from a killed run ends it as well", async () => {
  const folder = temporaryFolder();
  const first = await started(folder);
  first.program.kill("SIGKILL");
  await first.program.ended();
  const [redis] = processesIn(folder) as [number];
  const { program } = await started(folder);
  process.kill(redis, "SIGKILL");
  expect(sentenceOf(await program.ended())).toMatch(/^redis-server stopped/);
});

test("a data folder that cannot be made is named", async () => {
  const folder = temporaryFolder();
  closeSync(openSync(join(folder, ".latchkey"), "w"));
  const sentence = sentenceOf(await start(folder).ended());
  expect(sentence).toContain(".latchkey");
  expect(processesIn(folder)).toEqual([]);
});

const whyNoSmallDisk = probeMount();
const onSmallDisk = whyNoSmallDisk === "" ? "" : ` (skipped: ${whyNoSmallDisk})`;

test.skipIf(whyNoSmallDisk !== "")(`a disk that is full already is what it names${onSmallDisk}`, async () => {
  await withSmallDisk(async (folder) => {
    fill(folder);
    expect(sentenceOf(await start(folder).ended())).toMatch(/disk|space/i);
    expect(processesIn(folder)).toEqual([]);
  });
});

test.skipIf(whyNoSmallDisk !== "")(
  `a disk that becomes full ends it, and keeps what was stored${onSmallDisk}`,
  async () => {
    await withSmallDisk(async (folder) => {
      const first = await started(folder);
      const as = (await logIn(first.origin, "admin", "secret")).body.access_token;
      const store = (origin: string, key: string) =>
        send(origin, "POST", "/data", { as, json: { key, value: "x".repeat(50_000) } });
      expect((await store(first.origin, "before")).status).toBe(201);
      fill(folder);
      // Whoever asks meanwhile is not told that something was stored.
      const status = await store(first.origin, "after").then(
        (answer) => answer.status,
        () => 503,
      );
      expect(status).toBe(503);
      expect(sentenceOf(await first.program.ended())).toMatch(/disk|space/i);
      expect(processesIn(folder)).toEqual([]);

      rmSync(join(folder, "filler"));
      const second = await started(folder);
      expect((await send(second.origin, "GET", "/data/before", { as })).status).toBe(200);
      expect((await send(second.origin, "GET", "/data/after", { as })).status).toBe(404);
    });
  },
);

/** Why no file system of a few MB can be had, '' when it can. */
function probeMount(): string {
  if (process.getuid?.() !== 0) return "mounting a small file system needs root";
  const folder = temporaryFolder();
  const args = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder];
  if (spawnSync("mount", args, { stdio: "ignore" }).status !== 0) return "mount is not allowed here";
  execFileSync("umount", [folder]);
  return "";
}

async function withSmallDisk(job: (folder: string) => Promise<void>): Promise<void> {
  const folder = join(temporaryFolder(), "disk");
  mkdirSync(folder);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]);
  try {
    await job(folder);
  } finally {
    for (const pid of processesIn(folder)) process.kill(pid, "SIGKILL");
    // Lazily: a process that has just been killed may hold it for a moment.
    execFileSync("umount", ["--lazy", folder]);
  }
}

/** Take every block that is left. */
function fill(folder: string): void {
  const file = openSync(join(folder, "filler"), "w");
  const { bavail, bsize } = statfsSync(folder);
  for (let block = 0; block < bavail; block += 1) writeSync(file, Buffer.alloc(bsize));
  closeSync(file);
}
