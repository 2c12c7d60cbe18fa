/**
 * What operators do without a public route: the first tenants and users of an installation, before anybody can log in,
 * and what the audit pipeline could not deliver. `node shared/node/admin.ts <command> …`; without a command it lists them.
 */
import { once } from "node:events";
import * as z from "zod";
import { createRedis, createRunScript } from "../redis/client.ts";
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
  const url = z.string("REDIS_URL is missing").min(1, "REDIS_URL is missing").parse(process.env["REDIS_URL"]);
  const redis = createRedis(url, () => undefined);
  const run = createRunScript(redis, () => undefined);
  try {
    for await (const line of lines({ redis, run, sink: process.env["K_SINK"] })) {
      if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain");
    }
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
