/** A real redis-server for one machine: found or installed, then run as a child with its data in a folder. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { Failure } from "../failure.ts";
import { holdFolder } from "./hold-folder.ts";
import { onPath } from "./on-path.ts";
import { makePrivate } from "./private-folder.ts";

/** Scripts write after reading the clock, which Redis replicates by effect from 7.0 on. */
const OLDEST_MAJOR = 7;
/** Milliseconds to wait for a fresh redis-server, which may have to load its data. */
const START_TIMEOUT = 30_000;
/** Bytes below which a disk counts as full: an entry of the largest item by default, and room for the log. */
const FULL_DISK = 1024 * 1024;

/** Make sure that a redis-server can be started, installing it where that may be done. @throws {Failure} */
export function ensureRedisServer(say: (line: string) => void): void {
  if (!onPath("redis-server")) install(say);
  const version = execFileSync("redis-server", ["--version"], { encoding: "utf8" });
  const major = Number(/v=(\d+)\./.exec(version)?.[1]);
  if (!(major >= OLDEST_MAJOR)) {
    throw new Failure(
      `redis-server on the PATH is too old (${version.trim()}); Latchkey needs ${OLDEST_MAJOR}.0 or newer.`,
    );
  }
}

function install(say: (line: string) => void): void {
  for (const commands of installers()) {
    for (const [command = "", ...args] of commands) {
      say(`redis-server is not installed; running: ${[command, ...args].join(" ")}`);
      // RUNLEVEL keeps a sysv init from starting the package's own service beside ours.
      const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
      if (spawnSync(command, args, { stdio: ["ignore", "ignore", "inherit"], env }).status !== 0) break;
    }
    if (onPath("redis-server")) return;
  }
  throw new Failure(
    "Latchkey needs a redis-server (7.0 or newer) and could not install one. Install it " +
      "(Debian/Ubuntu: sudo apt-get install redis-server; macOS: brew install redis), or set REDIS_URL to one that runs.",
  );
}

/** Ways to install that need no password, as lists of commands. */
function installers(): string[][][] {
  if (onPath("brew")) return [[["brew", "install", "redis"]]];
  if (!onPath("apt-get")) return [];
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  if (asRoot.length > 0 && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status !== 0) return [];
  const install = "apt-get install -y -q --no-install-recommends redis-server";
  const installPackage = [...asRoot, ...install.split(" ")];
  return [[installPackage], [[...asRoot, "apt-get", "update", "-q"], installPackage]];
}

export interface LocalRedis {
  /** `unix://…`, relative to the working directory: socket paths may have no more than about 100 bytes. */
  readonly url: string;
  /** True when a run that was killed had left it behind. */
  readonly adopted: boolean;
  /** Save and end it. */
  stop(): Promise<void>;
}

interface Options {
  readonly extraArguments?: readonly string[];
  /** Called when it ends without having been told to. */
  readonly onExit?: (lastWords: string) => void;
}

/**
 * Start a redis-server whose data, log and socket are in `folder`, or take over one that a killed process left there;
 * every write is on disk before it is answered.
 * @throws {Failure} when it does not come up, or another process uses this folder's Redis already
 */
export async function startRedis(
  folder: string,
  { extraArguments = [], onExit }: Options = {},
): Promise<LocalRedis> {
  makePrivate(folder);
  const release = await holdFolder(folder);
  const socket = join(folder, "redis.sock");
  const left = await connect(socket, 200).catch(() => undefined);
  const { redis, pid, ended } =
    left === undefined
      ? await spawnRedis(folder, extraArguments).catch((error) => {
          release();
          throw error;
        })
      : await takeOver(left);

  const life = { stopping: false };
  // The last resort, when this process ends without having waited for it.
  const endWithUs = () => endProcess(pid);
  process.once("exit", endWithUs);
  void ended.then((signal) => {
    process.off("exit", endWithUs);
    release();
    if (!life.stopping) onExit?.(reasonOf(folder, signal));
  });
  return {
    url: `unix://${relative(process.cwd(), socket)}`,
    adopted: left !== undefined,
    async stop() {
      life.stopping = true;
      await Promise.all([shutdown(redis), ended]);
    },
  };
}

/** A redis-server that runs; `ended` tells the signal that ended it, null when it was none or that is not known. */
interface Running {
  readonly redis: Redis;
  readonly pid: number;
  readonly ended: Promise<NodeJS.Signals | null>;
}

async function takeOver(redis: Redis): Promise<Running> {
  const ended = new Promise<null>((resolve) => redis.once("end", () => resolve(null)));
  return { redis, pid: Number(/process_id:(\d+)/.exec(await redis.info("server"))?.[1]), ended };
}

async function spawnRedis(folder: string, extraArguments: readonly string[]): Promise<Running> {
  const socket = join(folder, "redis.sock");
  rmSync(socket, { force: true });
  const settings = {
    port: "0",
    unixsocket: "redis.sock",
    unixsocketperm: "700",
    appendonly: "yes",
    appendfsync: "always",
  };
  const settingsArguments = Object.entries({ ...settings, save: "", logfile: "redis.log" }).flatMap(
    ([k, v]) => [`--${k}`, v],
  );
  // A process group of its own: Ctrl-C must reach us first, while requests are still being finished.
  const child = spawn("redis-server", [...settingsArguments, ...extraArguments], {
    cwd: folder,
    detached: true,
    stdio: "ignore",
  });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => {
    child.once("exit", (_, signal) => resolve(signal)).once("error", () => resolve(null));
  });
  const redis = await Promise.race([connect(socket, START_TIMEOUT), ended.then(() => undefined)]).catch(
    () => undefined,
  );
  if (redis === undefined) {
    const reason = reasonOf(folder, child.signalCode);
    child.kill("SIGKILL");
    throw new Failure(`redis-server did not start: ${reason}`);
  }
  return { redis, pid: child.pid as number, ended };
}

/** SIGTERM, on which redis-server saves and ends. */
function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch {
    // It has ended already.
  }
}

async function shutdown(redis: Redis): Promise<void> {
  // Redis closes the connection in place of a reply.
  await redis.shutdown().catch(() => undefined);
  redis.disconnect();
}

/** A connection that has been answered. @throws when there is none within `timeout` milliseconds */
async function connect(socket: string, timeout: number): Promise<Redis> {
  const deadline = Date.now() + timeout;
  for (;;) {
    const redis = new Redis({
      path: socket,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
    });
    redis.on("error", () => undefined);
    try {
      await redis.connect();
      await redis.ping();
      return redis;
    } catch (error) {
      redis.disconnect();
      if (Date.now() > deadline) throw error;
      await delay(25);
    }
  }
}

/** Why redis-server ended, as far as can be told. @param signal null when it ended by itself, or that is not known */
function reasonOf(folder: string, signal: NodeJS.Signals | null): string {
  if (signal !== null) return `it was ended by ${signal}`;
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < FULL_DISK) return "the disk is full";
  const log = join(folder, "redis.log");
  return lastWords(log) ?? `see ${log}`;
}

/** What Redis 7.0 logs as warnings at every start and end. */
const USUAL_WORDS =
  /WARNING|Redis is starting|Redis version=|Configuration loaded|Server initialized|bye bye/;

/** The last warning in the log of this run. */
function lastWords(log: string): string | undefined {
  const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
  const run = lines.slice(lines.findLastIndex((line) => line.includes("Redis is starting")) + 1);
  const line = run.findLast((one) => one.includes(" # ") && !USUAL_WORDS.test(one));
  return line?.replace(/^\d+:\w .*? # /, "");
}
