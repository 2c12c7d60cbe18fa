/** A real redis-server for one machine: found or installed, then run as a child with its data in a folder. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { Redis } from "ioredis";
import { Failure } from "./failure.ts";

/** Scripts write after reading the clock, which Redis replicates by effect from 7.0 on. */
const OLDEST_MAJOR = 7;
/** Milliseconds to wait for a fresh redis-server, which may have to load its data. */
const START_TIMEOUT = 30_000;

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
  const installPackage = [
    ...asRoot,
    "apt-get",
    "install",
    "-y",
    "-q",
    "--no-install-recommends",
    "redis-server",
  ];
  return [[installPackage], [[...asRoot, "apt-get", "update", "-q"], installPackage]];
}

const onPath = (command: string): boolean =>
  (process.env["PATH"] ?? "").split(":").some((folder) => folder !== "" && existsSync(join(folder, command)));

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
 * Start a redis-server whose data, log and socket are in `folder`; every write is on disk before it is answered.
 * @throws {Failure} when it does not come up, or another process uses this folder's Redis already
 */
export async function startRedis(
  folder: string,
  { extraArguments = [], onExit }: Options = {},
): Promise<LocalRedis> {
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, "redis.sock");
  const url = `unix://${relative(process.cwd(), socket)}`;
  const left = await connect(socket, 200).catch(() => undefined);
  if (left !== undefined) {
    const inUse = String(await left.client("LIST")).includes("name=latchkey ");
    if (inUse) {
      left.disconnect();
      throw new Failure("Another Latchkey is running in this folder; stop it first.");
    }
    return { url, adopted: true, stop: () => shutdown(left) };
  }
  rmSync(socket, { force: true });

  const log = join(folder, "redis.log");
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
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve()).once("error", () => resolve());
  });
  const redis = await Promise.race([connect(socket, START_TIMEOUT), ended.then(() => undefined)]).catch(
    () => undefined,
  );
  if (redis === undefined) {
    child.kill("SIGKILL");
    throw new Failure(`redis-server did not start: ${lastWords(log)}`);
  }
  const life = { stopping: false };
  void ended.then(() => life.stopping || onExit?.(lastWords(log)));
  return {
    url,
    adopted: false,
    async stop() {
      life.stopping = true;
      await Promise.all([shutdown(redis), endOf(child)]);
    },
  };
}

const endOf = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()));

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
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

/** The last line of a redis-server's log that is a warning, or the last one at all. */
function lastWords(log: string): string {
  const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").slice(-20) : [];
  const line = lines.findLast((one) => one.includes(" # ") && !one.includes("bye bye")) ?? lines.at(-1);
  return line?.replace(/^\d+:\w .*? [*#.-] /, "") ?? "it wrote no log";
}
