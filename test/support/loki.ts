/** A Loki for tests: the real one where there is one, otherwise the double. */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { startDouble } from "./loki-double.ts";
import type { StoreOptions } from "./loki-ingest.ts";

export { startDouble } from "./loki-double.ts";

/** Milliseconds to wait for readiness; half a second when there is little to replay. */
const START_TIMEOUT = 30_000;
const POLL = 25;
const configuration = fileURLToPath(new URL("../../k8s/loki/loki.yaml", import.meta.url));

/** A Loki at LOKI_URL does not learn of them. */
export type LokiOptions = Partial<Pick<StoreOptions, "tenants" | "maxMessageBytes">>;

export interface TestLoki {
  readonly url: string;
  readonly kind: "real" | "double";
  /** End it and remove its data. */
  stop(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  /** Serve again on the same port with the data it had; kills it first when it still runs. */
  restart(): Promise<void>;
}

/** Where a real Loki would come from; undefined when there is none. */
export function realLoki(): "LOKI_URL" | "loki on the PATH" | undefined {
  if ((process.env["LOKI_URL"] ?? "") !== "") return "LOKI_URL";
  return binary() === undefined ? undefined : "loki on the PATH";
}

export async function startLoki(options: LokiOptions = {}): Promise<TestLoki> {
  switch (realLoki()) {
    case "LOKI_URL":
      return remote(process.env["LOKI_URL"] as string);
    case "loki on the PATH":
      return startBinary(binary() as string, options);
    default:
      return startDouble(options);
  }
}

function binary(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, "loki")).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Somebody else's Loki: it is used, and neither ended nor emptied. */
function remote(url: string): TestLoki {
  const refuse = () => Promise.reject(new Error("the Loki at LOKI_URL is not ours to end"));
  return {
    url: url.replace(/\/+$/, ""),
    kind: "real",
    stop: () => Promise.resolve(),
    kill: refuse,
    restart: refuse,
  };
}

async function startBinary(file: string, { tenants = {}, maxMessageBytes }: LokiOptions): Promise<TestLoki> {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-loki-"));
  const overrides = join(folder, "overrides.yaml");
  // JSON is YAML.
  writeFileSync(overrides, JSON.stringify({ overrides: tenants }));
  const [http, grpc] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${http}`;
  let running: Running | undefined;

  async function start(): Promise<void> {
    running = run(file, folder, {
      LOKI_DATA: join(folder, "data"),
      LOKI_ADDRESS: "127.0.0.1",
      LOKI_HTTP_PORT: String(http),
      LOKI_GRPC_PORT: String(grpc),
      LOKI_OVERRIDES: overrides,
      ...(maxMessageBytes === undefined ? {} : { LOKI_MAX_MESSAGE: String(maxMessageBytes) }),
    });
    await untilReady(url, running);
  }
  async function kill(): Promise<void> {
    running?.child.kill("SIGKILL");
    await running?.ended;
  }

  await start();
  return {
    url,
    kind: "real",
    kill,
    async restart() {
      await kill();
      await start();
    },
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  /** The end of what it wrote. */
  lastWords(): string;
}

function run(file: string, folder: string, settings: Record<string, string>): Running {
  const child = spawn(file, [`-config.file=${configuration}`, "-config.expand-env=true"], {
    cwd: folder,
    env: { ...process.env, ...settings },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-2_000);
  });
  const endWithUs = () => void child.kill("SIGKILL");
  process.once("exit", endWithUs);
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve()).once("error", () => resolve());
  }).finally(() => process.off("exit", endWithUs));
  return { child, ended, lastWords: () => words };
}

async function untilReady(url: string, { child, lastWords }: Running): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT;
  for (;;) {
    const status = await fetch(`${url}/ready`).then(
      async (response) => {
        await response.text();
        return response.status;
      },
      () => 0,
    );
    if (status === 200) return;
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`Loki did not start: ${lastWords()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}
