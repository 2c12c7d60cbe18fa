/** A deployment without bundles: `node shared/node/main.ts <function id>`, or `all` for every function in one process. */
import { functionIds, loadFunctions } from "./functions.ts";
import { fail, run } from "./run.ts";

const functions = await loadFunctions(process.argv[2]);
if (functions === undefined)
  fail(`Usage: node shared/node/main.ts <function>, one of: all ${functionIds.join(" ")}`);
await run(functions);
