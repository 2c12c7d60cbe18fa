/** A Loki for tests: the real one where there is one, otherwise the double. */
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { startDouble } from "./loki-double.ts";
import type { StoreOptions } from "./loki-ingest.ts";
import { type Program, run, until } from "./process.ts";

export { startDouble } from "./loki-double.ts";

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
  let program: Program | undefined;

  async function start(): Promise<void> {
    const started = run(file, [`-config.file=${configuration}`, "-config.expand-env=true"], {
      cwd: folder,
      env: {
        LOKI_DATA: join(folder, "data"),
        LOKI_ADDRESS: "127.0.0.1",
        LOKI_HTTP_PORT: String(http),
        LOKI_GRPC_PORT: String(grpc),
        LOKI_OVERRIDES: overrides,
        LOKI_MAX_MESSAGE: maxMessageBytes?.toString(),
      },
    });
    program = started;
    await until("Loki to be ready", async () => {
      if (!started.isRunning()) throw new Error(`Loki did not start: ${(await started.ended()).stderr}`);
      return isReady(url);
    });
  }
  async function kill(): Promise<void> {
    program?.kill("SIGKILL");
    await program?.ended();
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

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/ready`).then(
    ({ ok }) => ok,
    () => false,
  );
