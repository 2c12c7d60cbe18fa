/** One gateway for all files of the contract suite that need no other settings; its functions start as they are asked. */
import type { TestProject } from "vitest/node";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { startGateway } from "./gateway.ts";
import { ownRedis } from "./own-redis.ts";
import { cleanUp } from "./process.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const redis = await ownRedis();
  const secrets = await makeSecrets("demo");
  const gateway = await startGateway({ LATCHKEY_MODE: "local", REDIS_URL: redis.url, ...secrets });
  project.provide("redisUrl", redis.url);
  project.provide("gateway", { origin: gateway.origin, secrets });
  return async () => {
    await gateway.stop();
    await cleanUp();
    await redis.stop();
  };
}
