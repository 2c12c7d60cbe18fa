/** The configuration that data nodes and Sentinels are started with: who may do what, and what is on the disk. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../shared/node/dev/free-port.ts";
import { cleanUp, type Program, repository, run, temporaryFolder, until } from "./support/process.ts";

const files = join(repository, "k8s/redis");
const users = ["LATCHKEY", "LATCHKEY_SENTINEL", "REPLICA", "SENTINEL", "HEALTH", "ADMIN"] as const;
const passwords = Object.fromEntries(users.map((user) => [`${user}_PASSWORD`, `of-${user.toLowerCase()}`]));
const connections: Redis[] = [];

let folder: string;
let port: number;
let server: Program;

beforeEach(async () => {
  folder = temporaryFolder();
  port = await freePort();
});
afterEach(() => {
  for (const connection of connections.splice(0)) connection.disconnect();
});
afterAll(cleanUp);

/** A file as the start scripts fill it in. */
function rendered(name: "redis.conf" | "sentinel.conf"): string {
  const self = `127.0.0.1:${port}`;
  return execFileSync("sh", ["-c", `. ${files}/lib.sh; render ${files}/${name}`], {
    encoding: "utf8",
    env: {
      ...passwords,
      ...{ PATH: process.env["PATH"], SELF: self, REDIS_NODES: self, REDIS_SENTINELS: self },
      ...{ REDIS_DATA: folder, SENTINEL_DATA: folder, MAXMEMORY: "100000000", REDIS_MASTER_NAME: "latchkey" },
      ...{ MASTER_HOST: "127.0.0.1", MASTER_PORT: String(port), QUORUM: "1", DOWN_AFTER: "3000" },
    },
  });
}

async function start(name: "redis.conf" | "sentinel.conf"): Promise<void> {
  const file = join(folder, name);
  // This one is alone: what it writes nobody could replicate.
  writeFileSync(file, rendered(name).replace("min-replicas-to-write 1", "min-replicas-to-write 0"));
  const args = name === "redis.conf" ? [file] : [file, "--sentinel"];
  server = run("redis-server", args, { cwd: folder });
  const admin = as("admin", "ADMIN");
  await until("an answer", () => admin.ping().catch(() => false));
}

function as(username: string, user: (typeof users)[number]): Redis {
  const redis = new Redis(port, "127.0.0.1", {
    ...{ username, password: passwords[`${user}_PASSWORD`] as string },
    ...{ enableReadyCheck: false, retryStrategy: () => 50, maxRetriesPerRequest: 0 },
  });
  redis.on("error", () => undefined);
  connections.push(redis);
  return redis;
}

/** Whether a user may run a command, which is given as many arguments as it takes at least. */
async function may(admin: Redis, user: string, ...command: string[]): Promise<boolean> {
  const [[, arity]] = (await admin.call("COMMAND", "INFO", command[0] ?? "")) as [[string, number]];
  const missing = Math.max(0, Math.abs(arity) - command.length);
  const answer = await admin.call("ACL", "DRYRUN", user, ...command, ...Array<string>(missing).fill("1"));
  if (answer !== "OK") expect(String(answer)).toContain("no permissions");
  return answer === "OK";
}

describe("a data node", () => {
  test("loads everything that scripts have written when it starts again", async () => {
    await start("redis.conf");
    const functions = as("latchkey", "LATCHKEY");
    await functions.ping();
    await functions.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 2)", 2, "one", "two");
    server.kill("SIGTERM");
    await server.ended();
    await start("redis.conf");
    const again = as("latchkey", "LATCHKEY");
    await again.ping();
    expect(await again.mget("one", "two")).toEqual(["1", "2"]);
  });

  test("takes no write that nobody follows and none that does not fit, and gives up nothing for it", async () => {
    await start("redis.conf");
    const [admin] = connections as [Redis];
    const [, replicas = ""] = /^min-replicas-to-write (\d+)$/m.exec(rendered("redis.conf")) ?? [];
    await admin.set("kept", "1");
    await admin.config("SET", "maxmemory", "1");
    await expect(admin.set("more", "1")).rejects.toThrow("OOM");
    await admin.config("SET", "maxmemory", "0");
    await admin.config("SET", "min-replicas-to-write", replicas);
    await expect(admin.set("more", "1")).rejects.toThrow("NOREPLICAS");
    expect(await admin.get("kept")).toBe("1");
    expect(await admin.config("GET", "min-replicas-max-lag")).toEqual(["min-replicas-max-lag", "3"]);
  });

  test("answers nobody who has no password", async () => {
    await start("redis.conf");
    const nobody = new Redis(port, "127.0.0.1", { enableReadyCheck: false, retryStrategy: () => null });
    nobody.on("error", () => undefined);
    connections.push(nobody);
    await expect(nobody.ping()).rejects.toThrow("NOAUTH");
  });

  test("lets functions do what their scripts do, and nothing that empties, configures or stops it", async () => {
    await start("redis.conf");
    const [admin] = connections as [Redis];
    const lua = join(repository, "shared/redis/lua");
    const texts = readdirSync(lua, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".lua"))
      .map((name) => readFileSync(join(lua, name), "utf8"));
    const called = new Set(
      texts.flatMap((text) => [...text.matchAll(/redis\.call\('(\w+)'/g)].map(([, name = ""]) => name)),
    );
    expect(called.size).toBeGreaterThan(20);
    const needed = [...called, "EVALSHA", "EVAL", "WAIT", "SETEX", "DEL", "INFO", "PING"].map((name) => [
      name,
    ]);
    for (const command of [...needed, ["CLIENT", "SETNAME", "x"]])
      expect([command, await may(admin, "latchkey", ...command)]).toEqual([command, true]);
    const forbidden =
      "FLUSHALL,FLUSHDB,KEYS *,CONFIG GET *,SHUTDOWN,REPLICAOF no one,DEBUG SLEEP,ACL LIST,MONITOR,SAVE";
    for (const command of forbidden.split(",").map((line) => line.split(" ")))
      expect([command, await may(admin, "latchkey", ...command)]).toEqual([command, false]);
  });

  test("takes what the operators' guide has typed in its pod, TLS or not: by the scripts' own way in", async () => {
    await start("redis.conf");
    const [guide = "", alerts = ""] = ["k8s/README.md", "k8s/prometheus/rules/alerts.yml"].map((path) =>
      readFileSync(join(repository, path), "utf8"),
    );
    const typed = [...`${guide}${alerts}`.matchAll(/exec (?:-i )?redis-0 -- sh -c '([^']+)'/g)].map(
      ([, one = ""]) => one,
    );
    const answers = typed.map((script) =>
      execFileSync("sh", ["-c", script.replace("/etc/redis/", `${files}/`)], {
        encoding: "utf8",
        input: "another-password\n",
        env: { ...passwords, PATH: process.env["PATH"], SELF: `127.0.0.1:${port}` },
      }).trim(),
    );
    expect(answers).toEqual([
      ...["OK", "ERR This instance has cluster support disabled"],
      expect.stringContaining("role:master"),
    ]);
    expect(`${guide}${alerts}`).not.toMatch(/redis-cli/);
    for (const password of [passwords["LATCHKEY_PASSWORD"], "another-password"]) {
      const both = new Redis(port, "127.0.0.1", {
        username: "latchkey",
        password,
        retryStrategy: () => null,
      });
      connections.push(both);
      expect(await both.ping()).toBe("PONG");
    }
  });

  test("lets probes and replicas read nobody's data", async () => {
    await start("redis.conf");
    const [admin] = connections as [Redis];
    for (const user of ["health", "replica", "sentinel"])
      expect([user, await may(admin, user, "GET", "key")]).toEqual([user, false]);
    expect(await may(admin, "health", "INFO", "replication")).toBe(true);
  });
});

describe("a Sentinel", () => {
  test("lets functions ask who is master, and change nothing", async () => {
    await start("sentinel.conf");
    const functions = as("latchkey", "LATCHKEY_SENTINEL");
    await functions.ping();
    expect(await functions.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "latchkey")).toEqual([
      "127.0.0.1",
      String(port),
    ]);
    for (const command of [
      ["FAILOVER", "latchkey"],
      ["REMOVE", "latchkey"],
      ["SET", "latchkey", "quorum", "9"],
    ])
      await expect(functions.call("SENTINEL", ...command)).rejects.toThrow("NOPERM");
  });
});

test("a password that would be another setting is refused", () => {
  const broken = { ...passwords, HEALTH_PASSWORD: "x +@all" };
  const env = { ...broken, SELF: "a:1", REDIS_DATA: "/data", MAXMEMORY: "1", PATH: process.env["PATH"] };
  const render = () =>
    execFileSync("sh", ["-c", `. ${files}/lib.sh; render ${files}/redis.conf`], { env, stdio: "pipe" });
  expect(render).toThrow("HEALTH_PASSWORD has characters");
});
