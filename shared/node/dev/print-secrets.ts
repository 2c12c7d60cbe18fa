/** `npm run secrets`: fresh secrets for a deployment, as literal lines of an env file. */
import { randomBytes } from "node:crypto";
import { makeSecrets } from "./make-secrets.ts";

// Sorts by day, and two of one day differ: a leak may have to be answered on the day of the installation.
const mark = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}${randomBytes(2).toString("hex")}`;
for (const [name, value] of Object.entries(await makeSecrets(mark)))
  process.stdout.write(`${name}=${value}\n`);
