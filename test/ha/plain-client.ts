/**
 * 64 writers over ioredis's own Sentinel client, as its README shows it: no WAIT, and a command whose connection broke is
 * sent again. On SIGTERM it holds what it was told against what the master has, and prints that as a line of JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { onSignal } from "../../shared/node/signals.ts";

const WRITERS = 64;
/** Milliseconds that a writer thinks, as those that use the functions do. */
const THINKING = 20;

const env = (name: string) => process.env[name] ?? "";
const redis = new Redis({
  sentinels: env("REDIS_SENTINELS")
    .split(",")
    .map((address) => address.split(":"))
    .map(([host = "", port]) => ({ host, port: Number(port) })),
  name: env("REDIS_MASTER_NAME"),
  username: env("REDIS_USERNAME"),
  password: env("REDIS_PASSWORD"),
  sentinelUsername: env("REDIS_SENTINEL_USERNAME"),
  sentinelPassword: env("REDIS_SENTINEL_PASSWORD"),
});
redis.on("error", () => undefined);

const life = { stopping: false };
const acknowledged: number[][] = Array.from({ length: WRITERS }, () => []);
let last = performance.now();
let outage = 0;
let slowest = 0;

async function write(writer: number): Promise<void> {
  for (let number = 0; !life.stopping; number += 1) {
    const began = performance.now();
    try {
      await redis.rpush(`writer-${writer}`, number);
      acknowledged[writer]?.push(number);
      outage = Math.max(outage, performance.now() - last);
      last = performance.now();
    } catch {
      // Not acknowledged.
    }
    slowest = Math.max(slowest, performance.now() - began);
    await sleep(THINKING);
  }
}
const writers = acknowledged.map((_, writer) => write(writer));

onSignal(async () => {
  life.stopping = true;
  await Promise.all(writers);
  const verdict = { acknowledged: 0, lost: 0, doubled: 0, outage, slowest };
  for (const [writer, numbers] of acknowledged.entries()) {
    const stored = Map.groupBy(await redis.lrange(`writer-${writer}`, 0, -1), Number);
    verdict.acknowledged += numbers.length;
    verdict.lost += numbers.filter((number) => !stored.has(number)).length;
    verdict.doubled += [...stored.values()].filter(({ length }) => length > 1).length;
  }
  process.stdout.write(`${JSON.stringify(verdict)}\n`);
  redis.disconnect();
  return 0;
});
