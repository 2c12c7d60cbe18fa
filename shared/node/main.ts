/** The entry of every deployment: `node shared/node/main.ts <function id>`, or `all` for every function in one process. */
import type { Redis } from "ioredis";
import { ConfigError } from "../config.ts";
import { schemasOf } from "../function.ts";
import { DEMO_KEY } from "../redis/keys.ts";
import { sentenceFor } from "./failure.ts";
import { functionIds, loadFunctions } from "./functions.ts";
import { createLog } from "./log.ts";
import { startServer } from "./server.ts";
import { configFor } from "./services.ts";
import { onSignal } from "./signals.ts";

const functions = await loadFunctions(process.argv[2]);
if (functions === undefined)
  fail(`Usage: node shared/node/main.ts <function>, one of: all ${functionIds.join(" ")}`);

try {
  const config = configFor(functions, process.env);
  const log = createLog(config.LATCHKEY_LOG_LEVEL, schemasOf(functions));
  const server = await startServer(functions, config, log);
  log.info({ port: server.port, functions: functions.map(({ route }) => route.id) }, "listening");
  if (config.LATCHKEY_MODE === "production") refuseDemoUsers(server.redis);
  onSignal(async (signal) => {
    log.info({ signal }, "stopping");
    return (await server.stop()) ? 0 : 1;
  });
} catch (error) {
  fail(
    error instanceof ConfigError ? `Wrong configuration:\n${error.message}` : sentenceFor(error, process.env),
  );
}

/** Everybody knows the password of the users that `npm start` makes. Asked as soon as Redis answers. */
function refuseDemoUsers(redis: Redis): void {
  redis.get(DEMO_KEY).then(
    (state) =>
      state !== null && fail("This Redis holds the demo users of npm start, which production refuses."),
    // Whoever cannot ask cannot serve either, and says so with every request.
    () => undefined,
  );
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
