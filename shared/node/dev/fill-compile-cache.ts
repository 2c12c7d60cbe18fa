/**
 * `node fill-compile-cache.ts <bundles> <cache>`: run each bundle once, so that Node keeps what V8 has compiled of it
 * (NODE_COMPILE_CACHE) and a pod's start does not compile again. No Redis is needed: the request that warms a
 * function's code is answered 503.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type Endpoint, eventRoutes, routes } from "../../routes.ts";
import { createTokenIssuer } from "../../tokens.ts";
import { bundleNames } from "./bundles.ts";
import { makeSecrets } from "./make-secrets.ts";

const [bundles, cache] = process.argv.slice(2);
if (bundles === undefined || cache === undefined) throw new Error("Expected two folders");

const secrets = await makeSecrets("demo");
const issue = await createTokenIssuer(JSON.parse(String(secrets["LATCHKEY_JWT_PRIVATE_KEY"])), {
  ...{ issuer: "latchkey", audience: "latchkey", lifetime: 600 },
});
const { token } = await issue({ tenantId: "t", userId: `usr_${"0".repeat(16)}`, role: "admin", epoch: 0 });
const endpoints: readonly Endpoint[] = [...routes, ...eventRoutes];

for (const name of bundleNames) {
  const program = spawn(process.execPath, [name], {
    cwd: bundles,
    env: {
      ...secrets,
      NODE_COMPILE_CACHE: cache,
      PORT: "0",
      LATCHKEY_MODE: "local",
      REDIS_URL: "unix:///nonexistent",
      LOKI_URL: "http://127.0.0.1:9",
    },
    // admin only says how it is used.
    stdio: ["ignore", "pipe", name === "admin" ? "ignore" : "inherit"],
  });
  const ended = once(program, "close");
  for await (const line of createInterface(program.stdout)) {
    const { port, msg } = JSON.parse(line);
    if (msg !== "listening") continue;
    await request(`http://127.0.0.1:${port}`, endpoints.find(({ id }) => id === name) ?? routes[0]);
    program.kill("SIGTERM");
  }
  const [code] = await ended;
  if (code !== (name === "admin" ? 1 : 0)) throw new Error(`${name} ended with ${code}`);
}

async function request(origin: string, { method, path }: Endpoint): Promise<void> {
  const response = await fetch(`${origin}${path.replaceAll(/\{\w+\}/g, "x")}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(method === "GET" ? {} : { body: "{}" }),
  });
  await response.arrayBuffer();
}
