/** A process from its functions to its end. What `main.ts` loads by name, a bundle holds already. */
import { ConfigError } from "../config.ts";
import { type Servable, schemasOf } from "../function.ts";
import { DEMO_KEY } from "../redis/keys.ts";
import { sentenceFor } from "./failure.ts";
import { createLog } from "./log.ts";
import { type RunningServer, startServer } from "./server.ts";
import { configFor } from "./services.ts";
import { onSignal } from "./signals.ts";

/** What a file in `functions/` exports. */
export interface FunctionModule {
  /** Of a function with a public route; of one that takes events only, that. */
  readonly default: Servable;
  /** What a function with a public route does with events. */
  readonly events?: Servable;
}

/** Everything that a function's own process serves. */
export const servablesOf = ({ default: main, events }: FunctionModule): Servable[] =>
  events === undefined ? [main] : [main, events];

/** Serve until a signal. Ends the process, with a sentence, when that cannot be. */
export async function run(functions: readonly Servable[]): Promise<void> {
  try {
    const config = configFor(functions, process.env);
    const log = createLog(config.LATCHKEY_LOG_LEVEL, schemasOf(functions));
    const server = await startServer(functions, config, log);
    log.info({ port: server.port, functions: functions.map(({ route }) => route.id) }, "listening");
    if (config.LATCHKEY_MODE === "production") void refuseDemoUsers(server);
    onSignal(async (signal) => {
      log.info({ signal }, "stopping");
      return (await server.stop()) ? 0 : 1;
    });
  } catch (error) {
    fail(
      error instanceof ConfigError
        ? `Wrong configuration:\n${error.message}`
        : sentenceFor(error, process.env),
    );
  }
}

/** Everybody knows the password of the users that `npm start` makes. Asked as soon as Redis answers. */
async function refuseDemoUsers({ connected, store }: RunningServer): Promise<void> {
  await connected;
  // Whoever cannot ask cannot serve either, and says so with every request.
  const state = await store.ask((redis) => redis.get(DEMO_KEY)).catch(() => null);
  if (state !== null) fail("This Redis holds the demo users of npm start, which production refuses.");
}

export function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
