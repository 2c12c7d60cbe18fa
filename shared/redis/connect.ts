/** The one connection of a process, made again for ever: to a single Redis, to whoever is master, or to a Redis Cluster. */
import { createConnection } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { AbstractConnector, Cluster, Redis, type RedisOptions } from "ioredis";
import type { RedisConfig } from "../redis-config.ts";
import { createMasterFinder, type FindMaster } from "./find-master.ts";

/** Milliseconds to reach a server. */
const CONNECT_TIMEOUT = 1_000;
/**
 * Milliseconds without a byte from a server that owes an answer, after which it counts as failed: a master that hangs
 * closes no connection. Above what WAIT takes at most, during which the server is silent and well.
 */
const SILENCE_TIMEOUT = 1_500;
/**
 * Milliseconds for what is under way on a connection that is given up, because its server is not the master: it closes
 * when it has answered, and each caller learns that nothing happened. Cut off at once, their outcomes would be unknown.
 */
const LAST_ANSWERS = 1_000;
/** Milliseconds between looks at a server that still loads its data: its own estimate can be seconds too long. */
const LOADING_CHECK = 250;
/** Milliseconds between attempts: drawn between these, so that processes that lost the same master do not return as one. */
const RETRY_DELAY = [50, 250] as const;

/** Error replies after which another server has to be looked for. NOREPLICAS: a master that a failover left behind. */
const NOT_THE_MASTER = /^(READONLY|MASTERDOWN|LOADING|NOREPLICAS)\b/;

const retryDelay = (): number => RETRY_DELAY[0] + Math.random() * (RETRY_DELAY[1] - RETRY_DELAY[0]);

/**
 * Connect. Nothing is queued while there is no connection and nothing is sent twice: a command is answered, or fails at
 * once when it was not sent, or fails when its connection broke and it may have happened.
 */
export function connectRedis(config: RedisConfig): Redis | Cluster {
  const credentials = credentialsOf(config.REDIS_USERNAME, config.REDIS_PASSWORD);
  const tls = config.REDIS_TLS || config.REDIS_URL?.startsWith("rediss:") ? tlsOptions(config) : undefined;
  const options = {
    ...credentials,
    ...(tls === undefined ? {} : { tls }),
    connectionName: "latchkey",
    connectTimeout: CONNECT_TIMEOUT,
    socketTimeout: SILENCE_TIMEOUT,
    disconnectTimeout: LAST_ANSWERS,
    maxLoadingRetryTime: LOADING_CHECK,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: retryDelay,
  } satisfies RedisOptions;
  if (config.REDIS_CLUSTER_NODES !== undefined) {
    const cluster: Cluster = new Cluster([...config.REDIS_CLUSTER_NODES], {
      redisOptions: options,
      // Nodes are reached at their first command, which has to wait for that.
      enableOfflineQueue: true,
      clusterRetryStrategy(_attempts, reason) {
        // A name that is nobody's, of which it tells nobody else.
        if (reason !== undefined) cluster.emit("error", reason);
        return retryDelay();
      },
      slotsRefreshTimeout: CONNECT_TIMEOUT,
      // ioredis would send a command again whose connection closed, although it may have happened.
      retryDelayOnFailover: 0,
    });
    // "Failed to refresh slots cache." tells nobody what to mend; the reason hangs on it.
    return cluster.on("error", (error: Error & { lastNodeError?: Error }) => {
      if (error.lastNodeError !== undefined) error.message += ` ${error.lastNodeError.message}`;
    });
  }
  if (config.REDIS_URL !== undefined) {
    // ioredis would read the first folder of a relative socket path as a host.
    const path = /^unix:\/\/(.+)/.exec(config.REDIS_URL)?.[1];
    return leaving(
      path === undefined
        ? new Redis(urlFor(config.REDIS_URL, credentials), options)
        : new Redis({ ...options, path }),
    );
  }
  const find = createMasterFinder(
    config,
    { ...credentials, ...(tls && { tls }) },
    {
      ...credentialsOf(config.REDIS_SENTINEL_USERNAME, config.REDIS_SENTINEL_PASSWORD),
      ...(tls && { tls }),
    },
  );
  return leaving(new Redis({ ...options, Connector: masterConnector(find, tls) }));
}

/** Make it leave a server that is not the master: once for each connection, whatever else is refused on it. */
function leaving(redis: Redis): Redis {
  redis.options.reconnectOnError = ({ message }) => NOT_THE_MASTER.test(message) && redis.stream.writable;
  return redis;
}

const credentialsOf = (
  username?: string,
  password?: string,
): Pick<RedisOptions, "username" | "password"> => ({
  ...(username === undefined ? {} : { username }),
  ...(password === undefined ? {} : { password }),
});

/** ioredis takes what the URL says before any option. */
function urlFor(text: string, { username, password }: Pick<RedisOptions, "username" | "password">): string {
  const url = new URL(text);
  if (username != null) url.username = encodeURIComponent(username);
  if (password != null) url.password = encodeURIComponent(password);
  return url.href;
}

const tlsOptions = ({ REDIS_TLS_CA: ca }: RedisConfig): ConnectionOptions => (ca === undefined ? {} : { ca });

/** ioredis's seam: what makes the connection; reconnecting and pipelining stay its own. */
function masterConnector(find: FindMaster, tls: ConnectionOptions | undefined) {
  return class MasterConnector extends AbstractConnector {
    constructor() {
      super(LAST_ANSWERS);
    }

    /** Look, round after round, until somebody takes writes or the client is closed. A rejection would end it for good. */
    override async connect(emit: (type: string, error: Error) => void) {
      this.connecting = true;
      for (;;) {
        // Rounds begin so far apart at least; one in which somebody hangs takes longer by itself.
        const next = delay(retryDelay());
        const master = await find().catch((error) => error as Error);
        if (!this.connecting) throw new Error("Connection is closed.");
        if (!(master instanceof Error)) {
          this.stream = tls === undefined ? createConnection(master) : connectTls({ ...tls, ...master });
          this.stream.once("error", (error) => {
            this.firstError = error;
          });
          return this.stream;
        }
        emit("error", master);
        await next;
      }
    }
  };
}
