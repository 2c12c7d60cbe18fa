/** A Loki for one machine, where `loki` is on the PATH: started with the project's own configuration. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Failure } from "../failure.ts";
import { freePort } from "./free-port.ts";
import { holdFolder } from "./hold-folder.ts";
import { onPath } from "./on-path.ts";
import { makePrivate } from "./private-folder.ts";

const CONFIGURATION = fileURLToPath(new URL("../../../k8s/loki/loki.yaml", import.meta.url));
/** Milliseconds to wait for a Loki, which may have to read its write-ahead log. */
const START_TIMEOUT = 60_000;
const STOP_TIMEOUT = 10_000;
const POLL = 100;

export interface LocalLoki {
  readonly url: string;
  /** End it; what it holds in memory is in its write-ahead log. */
  stop(): Promise<void>;
}

/**
 * @returns undefined where there is no `loki`
 * @throws {Failure} when it does not come up, or another process uses this folder's Loki already
 */
export async function startLoki(folder: string): Promise<LocalLoki | undefined> {
  if (!onPath("loki")) return undefined;
  makePrivate(folder);
  const note = join(folder, "running.json");
  const left = readNote(note);
  const release = await holdFolder(folder).catch((error: Error) => {
    const share = left === undefined ? "" : `, or share its Loki: LOKI_URL=${left.url}`;
    throw error instanceof Failure ? new Failure(`${error.message.replace(/\.$/, "")}${share}.`) : error;
  });
  // A run that was killed left it behind; two of them would write to the same files.
  const isOurs = left !== undefined && isAlive(left);
  // Nor may there be two when somebody has started it again by hand, and that one is not ours to end.
  if (left !== undefined && !isOurs && (await isReady(left.url)))
    return { url: left.url, stop: async () => release() };

  const log = join(folder, "loki.log");
  const running = isOurs ? left : await spawnLoki(folder, log);
  writeFileSync(note, JSON.stringify(running));
  const end = () => endProcess(running);
  // From the very start on: it outlives us unless we end it.
  process.once("exit", end);
  const loki: LocalLoki = {
    url: running.url,
    async stop() {
      process.off("exit", end);
      end();
      const deadline = Date.now() + STOP_TIMEOUT;
      while (isAlive(running) && Date.now() < deadline) await delay(POLL);
      if (!isAlive(running)) rmSync(note, { force: true });
      release();
    },
  };
  const deadline = Date.now() + START_TIMEOUT;
  while (!(await isReady(loki.url))) {
    if (!isAlive(running) || Date.now() > deadline) {
      await loki.stop();
      throw new Failure(`loki did not start; ${log} says why.`);
    }
    await delay(POLL);
  }
  return loki;
}

/** What a start leaves for the next one. */
interface Note {
  readonly url: string;
  readonly pid: number;
  /** With the pid, which can be another process's by then, the name of a process. */
  readonly started: string;
}

function readNote(file: string): Note | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // There is none, or whoever wrote it was killed.
    return undefined;
  }
}

async function spawnLoki(folder: string, log: string): Promise<Note> {
  const [http, grpc] = [await freePort(), await freePort()];
  const output = openSync(log, "w", 0o600);
  const child = spawn("loki", [`-config.file=${CONFIGURATION}`, "-config.expand-env=true"], {
    cwd: folder,
    // A process group of its own: Ctrl-C must reach us first.
    detached: true,
    stdio: ["ignore", output, output],
    env: {
      ...process.env,
      LOKI_DATA: resolve(folder, "data"),
      LOKI_ADDRESS: "127.0.0.1",
      LOKI_HTTP_PORT: String(http),
      LOKI_GRPC_PORT: String(grpc),
    },
  });
  const failed = new Promise<never>((_, reject) => {
    child.once("error", (error) => reject(new Failure(`loki cannot be run: ${error.message}.`)));
  });
  closeSync(output);
  await Promise.race([once(child, "spawn"), failed]);
  const pid = child.pid as number;
  return { url: `http://127.0.0.1:${http}`, pid, started: startOf(pid) ?? "" };
}

function isAlive({ pid, started }: Note): boolean {
  const start = startOf(pid);
  return start !== undefined && start === started;
}

/** When a process began, as its system says it; undefined when none of this id is running. */
function startOf(pid: number): string | undefined {
  try {
    if (!existsSync("/proc/self/stat"))
      return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    // proc_pid_stat(5): the second field, a name in parentheses, can hold anything; then come the state and, 22nd, the start.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ");
    return fields?.[0] === "Z" ? undefined : fields?.[19];
  } catch {
    return undefined;
  }
}

function endProcess(note: Note): void {
  try {
    if (isAlive(note)) process.kill(note.pid, "SIGTERM");
  } catch {
    // It has ended meanwhile.
  }
}

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/ready`, { signal: AbortSignal.timeout(2_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
