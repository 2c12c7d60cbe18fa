/** What the README says is so. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { eventRoutes, routes } from "../shared/routes.ts";

const root = new URL("../", import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, root), "utf8");
const readme = read("README.md");

test("every file and folder that it links to exists", () => {
  const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, path]) => String(path));
  expect(links.length).toBeGreaterThan(10);
  expect(links.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
});

test("every npm script that it names exists, and CI runs its test command", () => {
  const { scripts } = JSON.parse(read("package.json"));
  const named = [...readme.matchAll(/npm run (?:--silent )?([\w:-]+)/g)].map(([, script]) => String(script));
  expect(named.filter((script) => !(script in scripts))).toEqual([]);
  const testCommand = /## Test it\s+```sh\n(.*?)\n```/s.exec(readme)?.[1];
  expect(testCommand).toBe("npm ci && npm test");
  expect(read(".ci/run")).toContain(`\n${testCommand}\n`);
});

test("its command for secrets prints what a production process starts with", () => {
  const printed = execFileSync("npm", ["run", "--silent", "secrets"], {
    encoding: "utf8",
    cwd: root,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const names = printed
    .trim()
    .split("\n")
    .map((line) => line.slice(0, line.indexOf("=")));
  expect(names).toEqual(["LATCHKEY_JWT_PRIVATE_KEY", "LATCHKEY_JWT_PUBLIC_KEYS", "LATCHKEY_API_KEY_PEPPERS"]);
});

test("every function of the route table has its file, and no other file is among them", () => {
  expect(readdirSync(new URL("functions", root)).sort()).toEqual(
    [...new Set([...routes, ...eventRoutes].map(({ id }) => `${id}.ts`))].sort(),
  );
});

test("the top level of shared/ is pure: it imports nothing that only Node has", () => {
  for (const file of readdirSync(new URL("shared", root)).filter((name) => name.endsWith(".ts"))) {
    const imports = [...read(`shared/${file}`).matchAll(/from "([^"]+)"/g)].map(([, from]) => String(from));
    const impure = imports.filter((from) =>
      /^node:|ioredis|pino|prom-client|argon2|node-server|^\.\/(node|redis)\//.test(from),
    );
    expect([file, impure]).toEqual([file, []]);
  }
});
