/** Redis servers on TCP ports of loopback: masters, replicas, Sentinels, nodes of a cluster. Nothing is written to disk. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Redis, type RedisOptions } from "ioredis";
import { freePort } from "../../shared/node/dev/free-port.ts";
import type { Address } from "../../shared/redis-config.ts";
import { run, temporaryFolder, until } from "./process.ts";

export interface Server extends Address {
  /** `<host>:<port>`, as configuration names it. */
  readonly address: string;
  /** The tests' own connection, which survives what they do to the server. */
  readonly admin: Redis;
  signal(signal: NodeJS.Signals): void;
}

/** How the tests' own connection gets in. */
type Access = Pick<RedisOptions, "username" | "password" | "tls">;

const HOST = "127.0.0.1";

type Arguments = (port: number) => readonly string[];

async function start(args: Arguments, access: Access): Promise<Server> {
  const port = await freePort();
  const program = run("redis-server", args(port), { cwd: temporaryFolder() });
  const admin = new Redis(port, HOST, { retryStrategy: () => 50, ...access });
  admin.on("error", () => undefined);
  await until("redis-server to answer", () => admin.ping().catch(() => false));
  return { host: HOST, port, address: `${HOST}:${port}`, admin, signal: program.kill };
}

/** A data node. @param more arguments as redis-server takes them */
export const startServer = (more: Arguments = () => [], access: Access = {}): Promise<Server> =>
  start(
    (port) => [
      ...`--bind ${HOST} --port ${port} --appendonly no --repl-diskless-sync-delay 0 --save`.split(" "),
      "",
      ...more(port),
    ],
    access,
  );

/** Follows its master, has caught up, and confirms what the master writes. */
export async function startReplica({ port, host, admin }: Server): Promise<Server> {
  const others = Number(/connected_slaves:(\d+)/.exec(await admin.info("replication"))?.[1]);
  const replica = await startServer(() => ["--replicaof", host, String(port)]);
  await until("the replica to follow", () => confirmWrites(admin, others + 1));
  return replica;
}

/**
 * Whether that many replicas confirm what their master writes now. It may call them online before: when it has heard from
 * one a moment too early, it sends nothing until it hears again, a second later (replicaStartCommandStream in Redis).
 */
export async function confirmWrites(master: Redis, replicas: number): Promise<boolean> {
  await master.publish("written", "");
  return (await master.wait(replicas, 500)) >= replicas;
}

/** A Sentinel that takes nothing for a failure: it answers what it was told. */
export const startSentinel = (
  master: Address,
  name = "latchkey",
  more: Arguments = () => [],
  access: Access = {},
): Promise<Server> =>
  start((port) => {
    const file = join(temporaryFolder(), "sentinel.conf");
    const lines = [
      `bind ${HOST}`,
      `port ${port}`,
      `sentinel monitor ${name} ${master.host} ${master.port} 2`,
    ];
    writeFileSync(file, [...lines, `sentinel down-after-milliseconds ${name} 600000`, ""].join("\n"));
    return [file, "--sentinel", ...more(port)];
  }, access);
