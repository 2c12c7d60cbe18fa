/**
 * The first tenants and users of an installation, before anybody can log in:
 * `node shared/node/admin.ts create-tenant <tenant>`
 * `node shared/node/admin.ts create-user <tenant> <username> <role>`, with the password on standard input
 */
import { text } from "node:stream/consumers";
import { z } from "zod";
import { tenantId } from "../formats.ts";
import { roles } from "../permissions.ts";
import { createRedis, createRunScript } from "../redis/client.ts";
import { createOutbox } from "../redis/outbox.ts";
import { createTenant, createUser } from "../redis/tenants.ts";
import { createPasswordHasher } from "./passwords.ts";

const usage = `Usage: create-tenant <tenant>, or create-user <tenant> <username> <${roles.join("|")}> with the password on standard input`;
const commands = z.union([
  z.tuple([z.literal("create-tenant"), tenantId]),
  z.tuple([z.literal("create-user"), tenantId, z.string().min(1).max(256), z.enum(roles)]),
]);
const password = z
  .string()
  .min(8, "The password has fewer than 8 characters")
  .max(1024, "The password is too long");

async function main(): Promise<string> {
  const { data: command } = commands.safeParse(process.argv.slice(2));
  if (command === undefined) throw new Error(usage);
  const url = z.string("REDIS_URL is missing").min(1, "REDIS_URL is missing").parse(process.env["REDIS_URL"]);
  const redis = createRedis(url, () => undefined);
  const run = createRunScript(redis, () => undefined);
  try {
    if (command[0] === "create-tenant") {
      if (!(await createTenant(run, command[1]))) throw new Error("The tenant exists already");
      return `Created the tenant ${command[1]}`;
    }
    const [, tenant, username, role] = command;
    if (!(await createOutbox(redis, run).hasTenant(tenant))) throw new Error("There is no such tenant");
    const secret = password.parse((await text(process.stdin)).replace(/\r?\n$/, ""));
    const passwordHash = await createPasswordHasher(1).hash(secret, username);
    const userId = await createUser(redis, tenant, { username, passwordHash, role });
    if (userId === undefined) throw new Error("The username is taken");
    return `Created the user ${username} (${userId})`;
  } finally {
    redis.disconnect();
  }
}

main().then(
  (done) => process.stdout.write(`${done}\n`),
  (error) => {
    const message = error instanceof z.ZodError ? error.issues[0]?.message : String(error.message);
    process.stderr.write(`${message}\n`);
    process.exitCode = 1;
  },
);
