/**
 * `npm run resilience`: two tenants work while a function, the Redis that takes writes and the shipper are killed; exits with 1
 * when anything that was acknowledged is missing in Loki or in the store. By default against processes on this machine, with
 * `--context <context>` against a cluster, through kubectl: then the tenants' admins are CONTRACT_ADMIN_1 and
 * CONTRACT_ADMIN_2, `<username>:<password>`, of tenants that are there for tests.
 */
import { parseArgs } from "node:util";
import { cleanUpOnSignals } from "../support/process.ts";
import { clusterTarget } from "./cluster.ts";
import { localTarget } from "./local.ts";
import { type Options, resilience, table } from "./run.ts";

const usage =
  "Usage: npm run resilience -- [--context <context> [--namespace latchkey] [--url <https://host>]]";
const LOCAL: Options = { operations: 40, patience: 60_000, pause: 20 };
/** A pod starts from nothing, and what was left behind is sent again within a minute or two. */
const CLUSTER: Options = { operations: 100, patience: 300_000, pause: 50 };

const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      context: { type: "string" },
      namespace: { type: "string", default: "latchkey" },
      url: { type: "string" },
    },
  });
  const { context, namespace, url } = values;
  if (context === undefined && url !== undefined) throw new Error(usage);
  const target = await (context === undefined ? localTarget() : clusterTarget({ context, namespace, url }));
  try {
    say(`Against ${target.name}`);
    const { phases, violations } = await resilience(target, context === undefined ? LOCAL : CLUSTER, say);
    say(`\n${table(phases)}\n`);
    say(
      violations.length === 0
        ? "Nothing is missing."
        : `${violations.length} violations:\n${violations.join("\n")}`,
    );
    return violations.length === 0 ? 0 : 1;
  } finally {
    await target.close();
  }
}

cleanUpOnSignals();
process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
});
