/** One real redis-server for all test files; every test makes tenants of its own in it. */
import type { TestProject } from "vitest/node";
import { ensureRedisServer } from "../../shared/node/dev/redis-server.ts";
import { ownRedis } from "./own-redis.ts";

declare module "vitest" {
  interface ProvidedContext {
    redisUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  ensureRedisServer((line) => process.stderr.write(`${line}\n`));
  const redis = await ownRedis();
  project.provide("redisUrl", redis.url);
  return redis.stop;
}
