/** `npm start`: everything on this machine, with nothing to prepare. */
import { existsSync, linkSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, DEMO_MARK } from "../../config.ts";
import { schemasOf } from "../../function.ts";
import { eventRouteOf } from "../../routes.ts";
import { Failure, sentenceFor } from "../failure.ts";
import { loadEventFunctions, loadPublicFunctions } from "../functions.ts";
import { createLog } from "../log.ts";
import { type RunningServer, startServer } from "../server.ts";
import { configFor } from "../services.ts";
import { onSignal } from "../signals.ts";
import { createDemoUsers, DEMO_PASSWORD } from "./demo.ts";
import { freePort } from "./free-port.ts";
import { type LocalLoki, startLoki } from "./loki.ts";
import { makeSecrets } from "./make-secrets.ts";
import { makePrivate } from "./private-folder.ts";
import { ensureRedisServer, type LocalRedis, startRedis } from "./redis-server.ts";
import { walkthroughText } from "./walkthrough.ts";

const FOLDER = ".latchkey";
/** Milliseconds that a Redis of one's own may take to answer. */
const REDIS_TIMEOUT = 5_000;
/** Milliseconds between looks for what expired or was left in an outbox. */
const TICK = 60_000;
/** What a killed run left at its end is not old enough at the first look. */
const SECOND_TICK = 10_000;
const SHIP = eventRouteOf("audit-ship").path;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Set by the first Ctrl-C; what fails from then on fails because of it. */
const life = { stopping: false };

async function start(): Promise<void> {
  const local = process.env["REDIS_URL"] ? undefined : startLocalRedis();
  const running: { server?: RunningServer; loki?: LocalLoki | undefined } = {};
  // From the very start on: redis-server outlives us unless we end it.
  onSignal(async () => {
    life.stopping = true;
    say("\nStopping …");
    const finished = (await running.server?.stop()) ?? true;
    await Promise.all([running.loki?.stop(), (await local)?.stop()]);
    return finished ? 0 : 1;
  });
  try {
    // Redis comes first: whoever has it has the folder, and with it the right to start a Loki in it.
    const redis = await local;
    running.loki = process.env["LOKI_URL"] ? undefined : await startLoki(join(FOLDER, "loki"));
    const lokiUrl = process.env["LOKI_URL"] || running.loki?.url;
    running.server = await serve(redis, lokiUrl);
    await welcome(running.server, lokiUrl);
  } catch (error) {
    await Promise.all([running.loki?.stop(), (await local)?.stop()]);
    throw error;
  }
}

async function startLocalRedis(): Promise<LocalRedis> {
  ensureRedisServer(say);
  const redis = await startRedis(join(FOLDER, "redis"), {
    onExit: (lastWords) => fail(new Failure(`redis-server stopped: ${lastWords}`)),
  });
  if (redis.adopted) say("Using the redis-server that an earlier run left behind.");
  return redis;
}

/** With a Loki this process is its own broker: what it publishes it delivers to its own audit-ship. */
async function serve(local: LocalRedis | undefined, lokiUrl: string | undefined): Promise<RunningServer> {
  const functions = [...(await loadPublicFunctions()), ...(lokiUrl ? await loadEventFunctions() : [])];
  const port = process.env["PORT"] === "0" ? await freePort() : process.env["PORT"] || "8080";
  const pipeline = lokiUrl ? { LOKI_URL: lokiUrl, K_SINK: `http://127.0.0.1:${port}${SHIP}` } : {};
  const config = configFor(functions, {
    LATCHKEY_MODE: "local",
    ...(await localSecrets()),
    ...process.env,
    ...(local === undefined ? {} : { REDIS_URL: local.url }),
    ...pipeline,
    PORT: String(port),
  });
  const log = createLog(config.LATCHKEY_LOG_LEVEL, schemasOf(functions));
  return startServer(functions, config, log);
}

/** Fill an empty store, then say where to go. */
async function welcome(server: RunningServer, lokiUrl: string | undefined): Promise<void> {
  await answered(server.connected);
  const demo = await createDemoUsers(server.store);
  const origin = `http://127.0.0.1:${server.port}`;
  say(`\nLatchkey answers at ${origin}; Ctrl-C stops it.`);
  if (lokiUrl !== undefined) {
    say(`The audit trail goes to the Loki at ${lokiUrl}.`);
    keepTicking(origin);
  }
  if (!demo) return say("No demo users are made: this Redis was not empty.");
  say(
    `Demo users: admin and user1 of tenant1, user2 of tenant2; password: ${DEMO_PASSWORD}\nTry it in another shell:\n`,
  );
  say(walkthroughText(origin));
}

/** In a cluster a PingSource does this. */
function keepTicking(origin: string): void {
  const tick = () => {
    for (const id of ["data-expire", "audit-relay"]) {
      fetch(`${origin}/events/${id}`, { method: "POST" }).catch(() => undefined);
    }
  };
  tick();
  setTimeout(tick, SECOND_TICK).unref();
  setInterval(tick, TICK).unref();
}

/** @throws {Failure} when the Redis that was asked for does not answer */
async function answered(reply: Promise<unknown>): Promise<void> {
  const late = new Promise<never>((_, reject) =>
    setTimeout(reject, REDIS_TIMEOUT, new Error("timed out")).unref(),
  );
  await Promise.race([reply, late]).catch((error: Error) => {
    throw new Failure(`The Redis at REDIS_URL does not answer (${error.message}).`);
  });
}

/** Secrets of this folder, made once: tokens and keys of an earlier run stay valid. */
async function localSecrets(): Promise<Record<string, string>> {
  const file = join(FOLDER, "secrets.json");
  if (existsSync(file)) return readSecrets(file);
  makePrivate(FOLDER);
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, JSON.stringify(await makeSecrets(DEMO_MARK), null, 2), { mode: 0o600 });
  try {
    // Appears whole or not at all, and never replaces what another start has made meanwhile.
    linkSync(unfinished, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    unlinkSync(unfinished);
  }
  return readSecrets(file);
}

function readSecrets(file: string): Record<string, string> {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    throw new Failure(
      `${file} cannot be read; restore it, or delete it to make new secrets (API keys become invalid).`,
    );
  }
}

function fail(error: unknown): never {
  const message =
    error instanceof ConfigError ? `Wrong configuration:\n${error.message}` : sentenceFor(error, process.env);
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

start().catch((error) => life.stopping || fail(error));
