/** One real redis-server for all test files; every test makes tenants of its own in it. */
import type { TestProject } from "vitest/node";
import { ensureRedisServer } from "../../shared/node/dev/redis-server.ts";
import { ownRedis } from "./own-redis.ts";

declare module "vitest" {
  interface ProvidedContext {
    redisUrl: string;
    /** Where the contract suite sends its requests: this process, a gateway of its own, or what is deployed at CONTRACT_URL. */
    through: "process" | "nginx" | "url";
    /** The gateway, with the secrets of its functions, for who needs no other settings. */
    gateway: { readonly origin: string; readonly secrets: Record<string, string> } | undefined;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  ensureRedisServer((line) => process.stderr.write(`${line}\n`));
  const redis = await ownRedis();
  project.provide("redisUrl", redis.url);
  return redis.stop;
}
