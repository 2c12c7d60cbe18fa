/** The entry of every deployment: `node shared/node/main.ts <function id>`, or `all` for every function in one process. */
import { ConfigError } from "../config.ts";
import { schemasOf } from "../function.ts";
import { loadFunctions } from "./functions.ts";
import { createLog } from "./log.ts";
import { startServer } from "./server.ts";
import { configFor } from "./services.ts";
import { onSignal } from "./signals.ts";

const functions = await loadFunctions(process.argv[2]);
if (functions === undefined) fail("Usage: node shared/node/main.ts <function id, or all>");

try {
  const config = configFor(functions, process.env);
  const log = createLog(config.LATCHKEY_LOG_LEVEL, functions.flatMap(schemasOf));
  const server = await startServer(functions, config, log);
  log.info({ port: server.port, functions: functions.map(({ route }) => route.id) }, "listening");
  onSignal(async (signal) => {
    log.info({ signal }, "stopping");
    return (await server.stop()) ? 0 : 1;
  });
} catch (error) {
  fail(error instanceof ConfigError ? `Wrong configuration:\n${error.message}` : String(error));
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
