/**
 * `node fill-code-cache.ts <bundles>`: run each bundle once, as far as an answer, and store what V8 has compiled of it then,
 * so that a pod's start does not compile it again. There is no Redis here, only something that answers like one.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Endpoint, eventRoutes, routes } from "../../routes.ts";
import { createTokenIssuer } from "../../tokens.ts";
import { bundleNames, bundlePath } from "./bundles.ts";
import { makeSecrets } from "./make-secrets.ts";
import { startRedisDouble } from "./redis-double.ts";

/** Milliseconds between two looks whether a program is ready, and how often it is asked: half a minute. */
const POLL = 50;
const MAX_TRIES = 600;

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Expected a folder");

const secrets = await makeSecrets("demo");
const issue = await createTokenIssuer(JSON.parse(String(secrets["LATCHKEY_JWT_PRIVATE_KEY"])), {
  ...{ issuer: "latchkey", audience: "latchkey", lifetime: 600 },
});
const { token } = await issue({ tenantId: "t", userId: `usr_${"0".repeat(16)}`, role: "admin", epoch: 0 });
const endpoints: readonly Endpoint[] = [...routes, ...eventRoutes];

const redis = await startRedisDouble();
const address = `127.0.0.1:${(redis.address() as AddressInfo).port}`;
const writer = fileURLToPath(new URL("write-code-cache.ts", import.meta.url));
for (const name of bundleNames) {
  const program = spawn(process.execPath, [writer, bundlePath(folder, name)], {
    env: {
      ...secrets,
      PORT: "0",
      LATCHKEY_MODE: "local",
      // As k8s/ has it.
      ...{ REDIS_SENTINELS: address, REDIS_NODES: address },
      LOKI_URL: "http://127.0.0.1:9",
    },
    // admin only says how it is used.
    stdio: ["ignore", "pipe", name === "admin" ? "ignore" : "inherit"],
  });
  const ended = once(program, "close");
  for await (const line of createInterface(program.stdout)) {
    const { port, msg } = JSON.parse(line);
    if (msg !== "listening") continue;
    const endpoint = endpoints.find(({ id }) => id === name) ?? routes[0];
    await request(`http://127.0.0.1:${port}`, endpoint).finally(() => program.kill("SIGTERM"));
  }
  const [code] = await ended;
  if (code !== (name === "admin" ? 1 : 0)) throw new Error(`${name} ended with ${code}`);
}
redis.close();

async function request(origin: string, { method, path }: Endpoint): Promise<void> {
  // As Kubernetes does before it lets a request through.
  for (let tries = 0; !(await fetch(`${origin}/health/readiness`)).ok; tries += 1) {
    if (tries === MAX_TRIES) throw new Error(`${path}: not ready`);
    await delay(POLL);
  }
  const response = await fetch(`${origin}${path.replaceAll(/\{\w+\}/g, "x")}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(method === "GET" ? {} : { body: "{}" }),
  });
  // Not found or not valid, but a failure would leave out what comes after it.
  if (response.status >= 500) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}
