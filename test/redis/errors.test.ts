/** What an error means, told by its text: Redis has no other way to say it. */
import { expect, test } from "vitest";
import { parseRedisConfig } from "../../shared/config.ts";
import { connectRedis } from "../../shared/redis/connect.ts";
import { type Meaning, meaningOf } from "../../shared/redis/errors.ts";

const refused = "READONLY LOADING MASTERDOWN NOREPLICAS TRYAGAIN MOVED ASK CLUSTERDOWN BUSY";
const impossible = "OOM MISCONF NOAUTH NOPERM WRONGPASS";
const mistake = "ERR WRONGTYPE NOSCRIPT READONLYISH";

test.each<[Meaning, string]>([
  ["refused", refused],
  ["impossible", impossible],
  ["mistake", mistake],
])("an answer of Redis that means %s", (meaning, codes) => {
  for (const code of codes.split(" ")) {
    const error = Object.assign(new Error(`${code} and more`), { name: "ReplyError" });
    expect([code, meaningOf(error)]).toEqual([code, meaning]);
  }
});

test("what could not be sent has not happened, and what was sent and not answered may have", async () => {
  const redis = connectRedis(parseRedisConfig({ REDIS_NODES: "127.0.0.1:1" }));
  redis.on("error", () => undefined);
  const error = await redis.get("key").catch((reason) => reason);
  redis.disconnect();
  expect(meaningOf(error)).toBe("refused");
  expect(meaningOf(new Error("Connection is closed."))).toBe("unknown");
});
