/** One real redis-server for all test files; every test makes tenants of its own in it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { ensureRedisServer, startRedis } from "../../shared/node/dev/redis-server.ts";

declare module "vitest" {
  interface ProvidedContext {
    redisUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  ensureRedisServer((line) => process.stderr.write(`${line}\n`));
  const folder = mkdtempSync(join(tmpdir(), "latchkey-test-"));
  const redis = await startRedis(folder, { extraArguments: ["--appendonly", "no"] });
  project.provide("redisUrl", redis.url);
  return async () => {
    await redis.stop();
    rmSync(folder, { recursive: true });
  };
}
