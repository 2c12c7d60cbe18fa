/** A Loki for one machine, where `loki` is on the PATH: started with the project's own configuration. */
import { spawn } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Failure } from "../failure.ts";
import { freePort } from "./free-port.ts";
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

/** @returns undefined where there is no `loki`  @throws {Failure} when it does not come up */
export async function startLoki(folder: string): Promise<LocalLoki | undefined> {
  if (!onPath("loki")) return undefined;
  makePrivate(folder);
  const note = join(folder, "running.json");
  const left = existsSync(note) ? (JSON.parse(readFileSync(note, "utf8")) as Note) : undefined;
  // A run that was killed left it behind; two of them would write to the same files.
  if (left !== undefined && (await isReady(left.url))) return running(left, note);
  const [http, grpc] = [await freePort(), await freePort()];
  const log = join(folder, "loki.log");
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
  const life = { ended: false };
  child.once("exit", () => Object.assign(life, { ended: true }));
  child.once("error", () => Object.assign(life, { ended: true }));

  const started = { url: `http://127.0.0.1:${http}`, pid: child.pid ?? 0 };
  writeFileSync(note, JSON.stringify(started));
  // From the very start on: it outlives us unless we end it.
  const loki = running(started, note);
  const deadline = Date.now() + START_TIMEOUT;
  while (!(await isReady(loki.url))) {
    if (life.ended || Date.now() > deadline) {
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
}

function running({ url, pid }: Note, note: string): LocalLoki {
  const end = () => {
    try {
      if (pid > 0) process.kill(pid, "SIGTERM");
    } catch {
      // It has ended already.
    }
  };
  process.once("exit", end);
  return {
    url,
    async stop() {
      process.off("exit", end);
      end();
      const deadline = Date.now() + STOP_TIMEOUT;
      while ((await isReady(url)) && Date.now() < deadline) await delay(POLL);
      rmSync(note, { force: true });
    },
  };
}

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/ready`, { signal: AbortSignal.timeout(2_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
