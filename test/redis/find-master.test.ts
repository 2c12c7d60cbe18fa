/** Who is taken for the master: what Sentinels say, what pods answer, and what a candidate can show for itself. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseRedisConfig } from "../../shared/config.ts";
import { connectRedis } from "../../shared/redis/connect.ts";
import { createMasterFinder } from "../../shared/redis/find-master.ts";
import { cleanUp, temporaryFolder, until } from "../support/process.ts";
import { type Server, startReplica, startSentinel, startServer } from "../support/redis-servers.ts";

const NOBODY = "127.0.0.1:1";

let master: Server;
let replica: Server;
/** Takes writes, and nobody replicates it: what a failover left behind. */
let abandoned: Server;
const sentinels = {} as { right: Server; alsoRight: Server; stale: Server; foreign: Server };
const all: Server[] = [];
const keep = (server: Server): Server => {
  all.push(server);
  return server;
};
beforeAll(async () => {
  [master, abandoned] = [keep(await startServer()), keep(await startServer())];
  replica = keep(await startReplica(master));
  sentinels.right = keep(await startSentinel(master));
  sentinels.alsoRight = keep(await startSentinel(master));
  sentinels.stale = keep(await startSentinel(abandoned));
  sentinels.foreign = keep(await startSentinel(abandoned, "somebody-elses"));
});
afterAll(async () => {
  for (const { admin } of all) admin.disconnect();
  await cleanUp();
});

const list = (...servers: readonly (Server | string)[]): string =>
  servers.map((one) => (typeof one === "string" ? one : one.address)).join();
const finder = (env: Record<string, string>) => createMasterFinder(parseRedisConfig(env), {}, {});
/** Round after round, as a connection looks: on a busy machine one can end before anybody has answered. */
async function found(env: Record<string, string>): Promise<string> {
  const find = finder(env);
  const { host, port } = await until("somebody who takes writes", () => find().catch(() => undefined));
  return `${host}:${port}`;
}

test("whoever the Sentinels name is taken, although some are away and one knows no such master", async () => {
  const env = { REDIS_SENTINELS: list(NOBODY, sentinels.foreign, sentinels.right) };
  expect(await found(env)).toBe(master.address);
});

test("a Sentinel that is behind does not lead astray: most votes first, and a candidate without replicas is none", async () => {
  const { right, alsoRight, stale } = sentinels;
  for (const env of [
    { REDIS_SENTINELS: list(stale, right), REDIS_MIN_REPLICAS: "1" },
    { REDIS_SENTINELS: list(stale, right, alsoRight), REDIS_MIN_REPLICAS: "0" },
    { REDIS_SENTINELS: list(stale), REDIS_NODES: list(replica, master), REDIS_MIN_REPLICAS: "1" },
  ]) {
    expect(await found(env)).toBe(master.address);
  }
});

test("the Sentinels' word counts before the order of the pods", async () => {
  const env = { REDIS_NODES: list(abandoned, master), REDIS_MIN_REPLICAS: "0" };
  expect(await found(env)).toBe(abandoned.address);
  expect(await found({ ...env, REDIS_SENTINELS: list(sentinels.right) })).toBe(master.address);
});

test("pods are tried in their order, past those that are away or take no writes, and the Service comes last", async () => {
  expect(await found({ REDIS_NODES: list(NOBODY, replica, master) })).toBe(master.address);
  const last = { REDIS_SERVICE: list(master) };
  expect(await found({ REDIS_NODES: list(NOBODY, replica), ...last })).toBe(master.address);
  expect(await found({ REDIS_SENTINELS: NOBODY, ...last })).toBe(master.address);
  expect(await found({ REDIS_NODES: list(abandoned), ...last, REDIS_MIN_REPLICAS: "0" })).toBe(
    abandoned.address,
  );
});

test("nobody is taken when nobody can keep a promise, and everybody's reason is named", async () => {
  const find = finder({ REDIS_NODES: list(NOBODY, replica, abandoned) });
  // A round may end before the last one has answered.
  await expect
    .poll(() => find().catch(({ message }) => message))
    .toMatch(
      new RegExp(
        `${NOBODY}: .*ECONNREFUSED.*; ${replica.address}: READONLY.*; ${abandoned.address}: has 0 of 1 replicas`,
      ),
    );
  const ask = finder({ REDIS_SENTINELS: list(sentinels.foreign) });
  await expect
    .poll(() => ask().catch(({ message }) => message))
    .toContain(`${sentinels.foreign.address}: knows no master latchkey`);
});

/** Names this master, whatever it is asked. */
async function startLiar(...master: string[]): Promise<string> {
  const answer = `*2\r\n${master.map((text) => `$${text.length}\r\n${text}\r\n`).join("")}`;
  const liar = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      socket.write(answer.repeat(String(data).match(/^\*\d/gm)?.length ?? 0));
    });
  });
  await new Promise<void>((resolve) => liar.listen(0, "127.0.0.1", resolve).unref());
  return `127.0.0.1:${(liar.address() as AddressInfo).port}`;
}

test.each([
  ["nobody", "", "6379", /names a master by something that is no address/],
  ["a port that there is not", "127.0.0.1", "65536", /no address/],
  ["a host without an end", "x".repeat(100_000), "6379", /no address/],
  ["an IPv6 address", "::1", "1", /::1:1: connect/],
])("a Sentinel that names %s does no harm, and is named", async (_, host, port, reason) => {
  const liar = await startLiar(host, port);
  await expect
    .poll(() => finder({ REDIS_SENTINELS: liar })().catch(({ message }) => message))
    .toMatch(reason);
  expect(await found({ REDIS_SENTINELS: list(liar, sentinels.right) })).toBe(master.address);
});

test("whoever hangs holds up a round for a moment, and not for good", async () => {
  const hanging = keep(await startServer());
  hanging.signal("SIGSTOP");
  expect(await found({ REDIS_SENTINELS: list(hanging), REDIS_NODES: list(hanging, master) })).toBe(
    master.address,
  );
  hanging.signal("SIGCONT");
});

test("a probe leaves nothing behind", async () => {
  await found({ REDIS_NODES: list(master) });
  expect(await master.admin.keys("*probe*")).toEqual([]);
});

describe("TLS, with users at Redis and at the Sentinels", () => {
  const folder = temporaryFolder();
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  const env: Record<string, string> = {};
  beforeAll(async () => {
    openssl(
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem".split(
        " ",
      ),
      "-subj",
      "/CN=redis",
      "-addext",
      "subjectAltName=IP:127.0.0.1",
    );
    const ca = readFileSync(file("cert.pem"), "utf8");
    const tls = (port: number) => [
      ...`--port 0 --tls-port ${port} --tls-auth-clients no --tls-ca-cert-file ${file("cert.pem")}`.split(
        " ",
      ),
      ...`--tls-cert-file ${file("cert.pem")} --tls-key-file ${file("key.pem")}`.split(" "),
    ];
    const only = (name: string, password: string) =>
      `--user ${name} on >${password} ~* &* +@all --user default off`.split(" ");
    const at = (username: string, password: string) => ({ username, password, tls: { ca } });
    const data = await startServer(
      (port) => [...tls(port), ...only("latchkey", "secret")],
      at("latchkey", "secret"),
    );
    const sentinel = await startSentinel(
      data,
      "latchkey",
      (port) => [...tls(port), ...only("asking", "other")],
      at("asking", "other"),
    );
    for (const server of [data, sentinel]) keep(server);
    Object.assign(env, {
      REDIS_SENTINELS: sentinel.address,
      REDIS_USERNAME: "latchkey",
      REDIS_PASSWORD: "secret",
      REDIS_SENTINEL_USERNAME: "asking",
      REDIS_SENTINEL_PASSWORD: "other",
      REDIS_TLS: "true",
      REDIS_TLS_CA: ca,
      REDIS_MIN_REPLICAS: "0",
    });
  });
  const answers = async (changes: Record<string, string | undefined> = {}) => {
    const redis = connectRedis(parseRedisConfig({ ...env, ...changes }));
    try {
      return await Promise.race([
        new Promise((resolve) => redis.once("ready", () => resolve("ready"))),
        new Promise((resolve) => redis.once("error", ({ message }) => resolve(message))),
      ]);
    } finally {
      redis.disconnect();
    }
  };

  test("with everything as it should be, it connects", async () => {
    expect(await answers()).toBe("ready");
  });
  test.each([
    ["without TLS", { REDIS_TLS: "false" }, /closed|ECONNRESET/],
    ["with an authority that nobody trusts", { REDIS_TLS_CA: undefined }, /self-signed certificate/],
    ["with a wrong password at Redis", { REDIS_PASSWORD: "wrong" }, /WRONGPASS/],
    ["with a wrong password at the Sentinels", { REDIS_SENTINEL_PASSWORD: "wrong" }, /WRONGPASS/],
  ])("%s, it does not, and says why", async (_, changes, reason) => {
    expect(await answers(changes)).toMatch(reason);
  });
});
