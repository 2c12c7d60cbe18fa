/** The one Redis connection of a process, and how scripts run over it. */
import { Redis } from "ioredis";
import { storeError } from "./errors.ts";
import { loadScript, type ScriptName } from "./scripts.ts";

/** Milliseconds that one command may take before the caller is told to try again. */
const COMMAND_TIMEOUT = 2_000;
const CONNECT_TIMEOUT = 2_000;
/** Milliseconds between attempts to reconnect, growing up to the second figure, for as long as the process lives. */
const RECONNECT_DELAY = [50, 1_000] as const;

/** Run a script; arguments and replies are as the script's header says. @throws {Problem} store_unavailable */
export type RunScript = (
  name: ScriptName,
  keys: readonly string[],
  args: readonly string[],
) => Promise<unknown>;

/**
 * Connect to a single Redis; a lost connection is made again for ever. Nothing is sent twice by itself: a command
 * whose connection broke may have happened.
 * @param onError hears of every connection error.
 */
export function createRedis(url: string, onError: (error: Error) => void): Redis {
  const options = {
    commandTimeout: COMMAND_TIMEOUT,
    connectTimeout: CONNECT_TIMEOUT,
    connectionName: "latchkey",
    maxRetriesPerRequest: 1,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (attempt: number) => Math.min(attempt * RECONNECT_DELAY[0], RECONNECT_DELAY[1]),
  };
  // ioredis would read the first folder of a relative socket path as a host.
  const socket = /^unix:\/\/(.+)/.exec(url)?.[1];
  const redis = socket === undefined ? new Redis(url, options) : new Redis({ ...options, path: socket });
  redis.on("error", onError);
  return redis;
}

/** @param observe is told how long each script took, in seconds. */
export function createRunScript(
  redis: Redis,
  observe: (name: ScriptName, seconds: number) => void,
): RunScript {
  return async function run(name, keys, args) {
    const { sha1, text } = loadScript(name);
    const started = performance.now();
    try {
      try {
        return await redis.evalsha(sha1, keys.length, ...keys, ...args);
      } catch (error) {
        if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
        return await redis.eval(text, keys.length, ...keys, ...args);
      }
    } catch (error) {
      throw storeError(error);
    } finally {
      observe(name, (performance.now() - started) / 1000);
    }
  };
}
