/** Programs of this repository as real processes: started in folders of their own, watched, and surely ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { startRedis } from "../../shared/node/dev/redis-server.ts";
import { createPasswordHasher } from "../../shared/node/passwords.ts";
import { tenantKeys, tenantTag } from "../../shared/redis/keys.ts";
import { createStore } from "../../shared/redis/store.ts";
import { createTenant, createUser } from "../../shared/redis/tenants.ts";
import { createTokenIssuer } from "../../shared/tokens.ts";
import type { Answer, Send } from "./harness.ts";

export const repository = fileURLToPath(new URL("../..", import.meta.url));
const binaries = join(repository, "node_modules/.bin");

/** Milliseconds between two looks at a condition. */
const POLL = 20;
/** Milliseconds: less than a test may take, so that what was waited for is named, and enough for the slowest machine. */
const PATIENCE = 50_000;

/** Wait until `look` finds something. @throws naming `what` when that takes longer than `timeout` milliseconds */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  timeout = PATIENCE,
): Promise<Exclude<T, false | undefined | null>> {
  const deadline = Date.now() + timeout;
  for (;;) {
    const found = await look();
    if (found !== false && found !== undefined && found !== null)
      return found as Exclude<T, false | undefined | null>;
    if (Date.now() > deadline) throw new Error(`Waited ${timeout} ms in vain for ${what}`);
    await sleep(POLL);
  }
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Program {
  readonly pid: number;
  readonly stdout: () => string;
  readonly isRunning: () => boolean;
  /** Wait until standard output matches. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
  /** Wait until it has ended by itself or by a signal. */
  ended(timeout?: number): Promise<Ended>;
}

const children = new Set<ChildProcess>();
const folders = new Set<string>();
// Also when nobody gets to clean up.
process.once("exit", () => {
  for (const child of children) child.kill();
});

/** A new folder; what works in it when the test is over is ended. */
export function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "latchkey-process-")));
  folders.add(folder);
  return folder;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** End what the tests of this file have started, and remove their folders. */
export async function cleanUp(): Promise<void> {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) {
    for (const pid of processesIn(folder)) kill(pid);
    await until(`the processes in ${folder} to end`, () => processesIn(folder).length === 0);
    rmSync(folder, { recursive: true, force: true });
  }
  children.clear();
  folders.clear();
}

/** For programs that are no tests: Ctrl-C leaves nothing behind. */
export function cleanUpOnSignals(): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(1)));
  }
}

/** Ids of the processes that work in a folder or below it. Known on Linux; none elsewhere. */
export function processesIn(folder: string): number[] {
  if (!existsSync("/proc/self/cwd")) return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return `${readlinkSync(`/proc/${pid}/cwd`)}/`.startsWith(`${folder}/`);
      } catch {
        return false; // It has ended meanwhile, or is somebody else's.
      }
    })
    .map(Number);
}

interface RunOptions {
  readonly args?: readonly string[];
  readonly cwd?: string;
  /** Besides PATH, all that the program gets to see. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Run a script of the repository, as `npm run` would, without npm in between so that signals reach it. */
export const runScript = (script: string, { args = [], ...options }: RunOptions = {}): Program =>
  run(join(binaries, "node"), [join(repository, script), ...args], options);

/** Without a Loki, which `npm start` would start as well, where it has a folder of its own; start-loki.test.ts is about that. */
const searched = (process.env["PATH"] ?? "")
  .split(":")
  .filter((folder) => !existsSync(join(folder, "loki")) || existsSync(join(folder, "redis-server")));

export function run(
  command: string,
  args: readonly string[],
  { cwd = repository, env = {} }: RunOptions,
): Program {
  const path = [binaries, ...searched].join(":");
  const child = spawn(command, args, {
    cwd,
    env: { PATH: path, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  let ended: Ended | undefined;
  child.once("close", (code) => {
    ended = { code, ...output };
    children.delete(child);
  });
  const describe = () => `${args.join(" ")}\n${output.stdout.slice(-2_000)}\n${output.stderr}`;

  return {
    pid: child.pid as number,
    stdout: () => output.stdout,
    isRunning: () => ended === undefined,
    async says(pattern) {
      return until(`${pattern} from ${args[0]}`, () => {
        const match = pattern.exec(output.stdout);
        if (match === null && ended !== undefined) throw new Error(`Ended with ${ended.code}: ${describe()}`);
        return match;
      });
    },
    kill: (signal) => void child.kill(signal),
    ended: (timeout) => until(`the end of ${describe()}`, () => ended, timeout),
  };
}

/** A process that serves a function, or `all`, once it listens; on a free port unless `env` says otherwise. */
export async function serveFunctions(id: string, env: RunOptions["env"]) {
  const program = runScript("shared/node/main.ts", { args: [id], env: { PORT: "0", ...env } });
  const [, port] = await program.says(/"port":(\d+)/);
  return { program, origin: `http://127.0.0.1:${port}` };
}

/** Send a request over the network. */
export async function send(
  origin: string,
  method: string,
  path: string,
  { as, json, raw, headers = {} }: Pick<Send, "as" | "json" | "headers"> & { raw?: string } = {},
): Promise<Answer> {
  const body = raw ?? (json === undefined ? undefined : JSON.stringify(json));
  const response = await fetch(`${origin}${path}`, {
    method,
    headers: {
      ...(as === undefined ? {} : { authorization: `Bearer ${as}` }),
      ...(json === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
    signal: AbortSignal.timeout(15_000),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "");
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: isJson ? JSON.parse(text) : undefined,
  };
}

/** Log in as a form, as the printed commands do. */
export const logIn = (origin: string, username: string, password: string): Promise<Answer> =>
  send(origin, "POST", "/token", {
    raw: new URLSearchParams({ username, password }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });

/** A connection of the tests' own to the redis-server in a folder. */
export function connectTo(folder: string): Redis {
  const redis = new Redis({ path: join(folder, "redis.sock"), maxRetriesPerRequest: null });
  redis.on("error", () => undefined);
  return redis;
}

export type OwnRedis = Awaited<ReturnType<typeof ownRedis>>;

/** A redis-server that can be killed and started again where it was. */
export async function ownRedis(extraArguments: readonly string[] = []) {
  const folder = temporaryFolder();
  const start = () => startRedis(folder, { extraArguments });
  await start();
  const redis = connectTo(folder);
  const pid = async () => Number(/process_id:(\d+)/.exec(await redis.info("server"))?.[1]);
  let current = await pid();
  return {
    url: `unix://${join(folder, "redis.sock")}`,
    redis,
    signal: (signal: NodeJS.Signals) => process.kill(current, signal),
    async kill() {
      process.kill(current, "SIGKILL");
      await until("redis-server to die", () => processesIn(folder).length === 0);
    },
    async start() {
      // The death of the one before may not have been noticed yet.
      await until("redis-server to start", () => start().catch(() => false));
      current = await pid();
    },
  };
}

export const PASSWORD = "correct horse battery staple";
export type ProcessTenant = Awaited<ReturnType<typeof createProcessTenant>>;

/** A tenant with an admin whose password is PASSWORD, made straight in Redis; `secrets` sign the token. */
export async function createProcessTenant(redis: Redis, secrets: Record<string, string>, id: string) {
  const key = JSON.parse(secrets["LATCHKEY_JWT_PRIVATE_KEY"] ?? "");
  const issue = await createTokenIssuer(key, { issuer: "latchkey", audience: "latchkey", lifetime: 600 });
  const store = createStore(redis, { minReplicas: 0 });
  await createTenant(store, id);
  const username = `admin@${id}`;
  const passwordHash = await createPasswordHasher(1).hash(PASSWORD, "tests");
  const userId = await createUser(store, id, { username, passwordHash, role: "admin" });
  if (userId === undefined) throw new Error(`${username} is taken`);
  const { token } = await issue({ tenantId: id, userId, role: "admin", epoch: 0 });
  return { id, username, token, keys: tenantKeys(tenantTag(id)) };
}
