/** A redis-server for one test file alone, where everything in it is known to come from this file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startRedis } from "../../shared/node/dev/redis-server.ts";

export async function ownRedis() {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-own-"));
  const redis = await startRedis(folder, { extraArguments: ["--appendonly", "no"] });
  return {
    url: redis.url,
    socket: join(folder, "redis.sock"),
    async stop() {
      await redis.stop();
      rmSync(folder, { recursive: true });
    },
  };
}
