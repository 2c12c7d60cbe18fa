/**
 * `npm run contract -- --url https://api.example.com`: the contract suite against what is deployed there. The users of two
 * tenants that exist for tests are given by CONTRACT_ADMIN_1, CONTRACT_USER_1, CONTRACT_ADMIN_2 and CONTRACT_USER_2, each
 * `<username>:<password>`. What is made there is deleted again, but for the entries of their audit trails. Tests that need more
 * than requests (other settings, a look into the store) are skipped, each with its reason.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CONTRACT } from "./support/contract.ts";
import { DEPLOYED } from "./support/deployed-at.ts";

const usage = "Usage: npm run contract -- --url <https://host> [<part of a file's name>]…";

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function readArguments() {
  try {
    return parseArgs({ options: { url: { type: "string" } }, allowPositionals: true });
  } catch {
    return fail(usage);
  }
}

/** Once, before every file does: a wrong password would be tried until the user is locked out. */
async function logIn(origin: string, name: string): Promise<void> {
  const [, username, password] = /^([^:]+):(.+)$/s.exec(process.env[name] ?? "") ?? [];
  if (username === undefined) fail(`${name} is not <username>:<password>`);
  const answer = await fetch(`${origin}/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username, password }),
  }).catch(({ message, cause }) => fail(`${origin} does not answer: ${cause?.message ?? message}`));
  if (answer.status !== 200) fail(`${name} cannot log in: ${answer.status} ${await answer.text()}`);
}

const { values, positionals } = readArguments();
const url = URL.parse(values.url ?? "");
if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== "/") fail(usage);
process.env[DEPLOYED.url] = url.origin;
const names = DEPLOYED.tenants.flatMap((one) => Object.values(one));
const missing = names.filter((name) => !process.env[name]);
if (missing.length > 0) fail(`${usage}\nNot set: ${missing.join(", ")}`);
for (const name of names) await logIn(url.origin, name);

const { startVitest } = await import("vitest/node");
const vitest = await startVitest("test", positionals, {
  root: fileURLToPath(new URL("..", import.meta.url)),
  config: false,
  watch: false,
  reporters: ["verbose"],
  include: [...CONTRACT],
  provide: { through: "url", gateway: undefined, redisUrl: "" },
  // All files share two tenants.
  fileParallelism: false,
  testTimeout: 60_000,
  hookTimeout: 60_000,
});
await vitest.close();
