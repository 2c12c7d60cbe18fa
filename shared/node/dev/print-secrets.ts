/** `npm run secrets`: fresh secrets for a deployment, as lines of an env file. The name says when they were made. */
import { makeSecrets } from "./make-secrets.ts";

const mark = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}`;
for (const [name, value] of Object.entries(await makeSecrets(mark)))
  process.stdout.write(`${name}='${value}'\n`);
