/**
 * What operators do without a public route: the first tenants and users of an installation, before anybody can log in,
 * and what the audit pipeline could not deliver. `node shared/node/admin.ts <command> …`; without a command it lists them.
 */
import { once } from "node:events";
import * as z from "zod";
import { parseRedisConfig } from "../config.ts";
import { Problem } from "../problems.ts";
import { connectRedis } from "../redis/connect.ts";
import { createStore } from "../redis/store.ts";
import { minReplicasOf } from "../redis-config.ts";
import { type Command, Refusal } from "./admin/command.ts";
import { listDeadLetters, quarantined, resendDeadLetter } from "./admin/dead-letters.ts";
import { createFirstTenant, createFirstUser } from "./admin/tenants.ts";

const commands: Readonly<Record<string, Command>> = {
  "create-tenant": createFirstTenant,
  "create-user": createFirstUser,
  "list-dead-letters": listDeadLetters,
  "resend-dead-letter": resendDeadLetter,
  quarantined,
};
const usage = `Usage: ${Object.entries(commands)
  .map(([name, { takes }]) => `${name} ${takes}`)
  .join("\n       ")}`;

async function main([name = "", ...args]: readonly string[]): Promise<void> {
  const lines = Object.hasOwn(commands, name) ? commands[name]?.parse(args) : undefined;
  if (lines === undefined) throw new Refusal(usage);
  const config = parseRedisConfig(process.env);
  const redis = connectRedis(config);
  let reason = "";
  redis.on("error", ({ message }) => {
    reason = ` (${message})`;
  });
  const store = createStore(redis, { minReplicas: minReplicasOf(config) });
  try {
    for await (const line of lines({ store, sink: process.env["K_SINK"] })) {
      if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain");
    }
  } catch (error) {
    if (error instanceof Problem) throw new Refusal(error.message + reason);
    throw error;
  } finally {
    redis.disconnect();
  }
}

// Whoever has seen enough of a list (`| head`) is no error.
process.stdout.on("error", () => process.exit());

main(process.argv.slice(2)).catch((error) => {
  const message = error instanceof z.ZodError ? error.issues[0]?.message : String(error.message);
  process.stderr.write(`${message}\n`);
  process.exitCode = 1;
});
