/**
 * `npm run --silent secrets`: fresh secrets for a deployment, as literal lines of an env file.
 * `-- --kubernetes`: the same and all passwords, as Secrets for `kubectl create -f -`.
 * `-- --rotate jwt|peppers`, `-- --retire jwt|peppers`: the Secrets that are in use, from standard input, one step
 * further, for `kubectl replace -f -`.
 */
import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import * as z from "zod";
import { clusterSecrets, listOf } from "./cluster-secrets.ts";
import { makeSecrets } from "./make-secrets.ts";
import { retire, rotate, rotated } from "./rotate-secrets.ts";

// Sorts by day, and two of one day differ: a leak may have to be answered on the day of the installation.
const mark = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}${randomBytes(2).toString("hex")}`;

const what = z.enum(rotated).optional();
const options = z
  .object({ kubernetes: z.boolean().default(false), rotate: what, retire: what })
  .refine((given) => [given.kubernetes, given.rotate, given.retire].filter(Boolean).length <= 1);
const usage = `Usage: npm run --silent secrets [-- --kubernetes | --rotate ${rotated.join("|")} | --retire ${rotated.join("|")}]`;

async function main(): Promise<void> {
  const given = readOptions();
  if (given.rotate !== undefined || given.retire !== undefined) {
    const now = await text(process.stdin);
    const { secrets, advice } = given.rotate
      ? await rotate(given.rotate, now, mark)
      : retire(given.retire as (typeof rotated)[number], now);
    process.stderr.write(`${advice}\n`);
    process.stdout.write(listOf(secrets));
    return;
  }
  const own = await makeSecrets(mark);
  if (given.kubernetes) process.stdout.write(listOf(clusterSecrets(own)));
  else for (const [name, value] of Object.entries(own)) process.stdout.write(`${name}=${value}\n`);
}

function readOptions(): z.infer<typeof options> {
  try {
    const flag = { type: "string" } as const;
    const { values } = parseArgs({
      options: { kubernetes: { type: "boolean" }, rotate: flag, retire: flag },
    });
    return options.parse(values);
  } catch {
    throw new Error(usage);
  }
}

main().catch((error) => {
  // What was read is secret: of what does not parse nothing is repeated.
  const said = error instanceof z.ZodError || error instanceof SyntaxError;
  process.stderr.write(
    `${said ? "Standard input is not what kubectl prints of latchkey-jwt and latchkey-keys" : error.message}\n`,
  );
  process.exitCode = 1;
});
