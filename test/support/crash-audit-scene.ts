/** The audit pipeline as real processes at fixed addresses, each of which can be killed and started again. */
import { freePort } from "../../shared/node/dev/free-port.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { realLoki, startLoki } from "./loki.ts";
import {
  createProcessTenant,
  ownRedis,
  type ProcessTenant,
  type Program,
  runScript,
  until,
} from "./process.ts";

/** Ticks under way at once; a PingSource does not wait for the one before. */
const MAX_TICKS = 3;

/** What can be killed. */
export interface Victim {
  readonly name: string;
  isUp(): boolean;
  /** kill -9. */
  kill(): Promise<void>;
  /** At the address that it had. */
  start(): Promise<void>;
  /** All that it has written to standard output, in all its lives. */
  output(): string;
}

export type Scene = Awaited<ReturnType<typeof startScene>>;

/** @param names of tenants */
export async function startScene(names: readonly string[]) {
  const redis = await ownRedis();
  const secrets = await makeSecrets("demo");
  const loki = await startLoki();
  const kind = loki.kind === "double" ? "the double" : `real (${realLoki()})`;
  const tenants: ProcessTenant[] = [];
  for (const name of names) tenants.push(await createProcessTenant(redis.redis, secrets, name));

  const [all, broker, ship] = [await freePort(), await freePort(), await freePort()];
  const [relay, expire] = [await freePort(), await freePort()];
  const sink = `http://127.0.0.1:${broker}/default/audit`;
  const settings = { LATCHKEY_MODE: "local", LATCHKEY_LOG_LEVEL: "error", REDIS_URL: redis.url, ...secrets };
  const serve = (name: string, port: number, env: Record<string, string>): Victim =>
    processVictim(name === "all" ? "function" : name, {
      start: () =>
        runScript("shared/node/main.ts", { args: [name], env: { ...settings, PORT: String(port), ...env } }),
      isReady: () => answersOk("GET", `${originOf(port)}/health/readiness`),
    });
  const functions = serve("all", all, { K_SINK: sink, LOKI_URL: loki.url });
  const processes = [
    functions,
    processVictim("broker", {
      start: () =>
        runScript("test/support/broker-process.ts", {
          args: [String(broker), `${originOf(ship)}/events/audit-ship`],
        }),
      isReady: () => answersOk("OPTIONS", sink),
    }),
    serve("audit-ship", ship, { LOKI_URL: loki.url }),
    serve("audit-relay", relay, { K_SINK: sink }),
    serve("data-expire", expire, {}),
  ];
  const stop = (): Promise<void> => {
    redis.redis.disconnect();
    return loki.stop();
  };
  try {
    await Promise.all(processes.map((one) => one.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  // One at LOKI_URL is not ours to kill.
  const victims = realLoki() === "LOKI_URL" ? processes : [...processes, lokiVictim(loki)];

  return {
    ...{ redis: redis.redis, loki, kind, tenants, victims },
    /** Of the public functions; undefined while they do not serve. */
    origin: () => (functions.isUp() ? originOf(all) : undefined),
    relay: pingSource(`${originOf(relay)}/events/audit-relay`),
    expire: pingSource(`${originOf(expire)}/events/data-expire`),
    /** All but the processes, which `cleanUp` ends. */
    stop,
  };
}

const originOf = (port: number): string => `http://127.0.0.1:${port}`;

function processVictim(
  name: string,
  { start, isReady }: { start: () => Program; isReady: () => Promise<boolean> },
): Victim {
  let output = "";
  let program: Program | undefined;
  let ready = false;
  return {
    name,
    isUp: () => ready && program?.isRunning() === true,
    output: () => output + (program?.stdout() ?? ""),
    async kill() {
      ready = false;
      program?.kill("SIGKILL");
      output += (await program?.ended())?.stdout ?? "";
      program = undefined;
    },
    async start() {
      const started = start();
      program = started;
      const look = async () => {
        if (!started.isRunning()) throw new Error(`${name} ended: ${(await started.ended()).stderr}`);
        return isReady();
      };
      await until(`${name} to serve`, look);
      ready = true;
    },
  };
}

function lokiVictim({ kill, restart }: Awaited<ReturnType<typeof startLoki>>): Victim {
  let up = true;
  return {
    name: "loki",
    isUp: () => up,
    output: () => "",
    kill() {
      up = false;
      return kill();
    },
    async start() {
      await restart();
      up = true;
    },
  };
}

async function answersOk(method: string, url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { method, signal: AbortSignal.timeout(5_000) });
    await response.text();
    return response.ok;
  } catch {
    return false;
  }
}

/** What calls a function every so often, whatever became of the calls before. */
function pingSource(url: string) {
  /** By status; 0: no answer. */
  const answers = new Map<number, number>();
  let underWay = 0;
  async function tick(): Promise<void> {
    if (underWay === MAX_TICKS) return;
    underWay += 1;
    let status = 0;
    try {
      const response = await fetch(url, { method: "POST", signal: AbortSignal.timeout(45_000) });
      await response.text();
      status = response.status;
    } catch {
      // It is being killed, or was.
    }
    underWay -= 1;
    answers.set(status, (answers.get(status) ?? 0) + 1);
  }
  return {
    answers,
    tick,
    /** @returns what ends it */
    every(milliseconds: number): () => void {
      const timer = setInterval(() => void tick(), milliseconds);
      return () => clearInterval(timer);
    },
  };
}
