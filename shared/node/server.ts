/** A process that serves functions: listening, health, metrics, and a shutdown that loses nothing. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { serve } from "@hono/node-server";
import type { Context } from "hono";
import type { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import { createApp, type SystemHandlers } from "../app.ts";
import type { Config } from "../config.ts";
import type { Servable } from "../function.ts";
import { connectRedis } from "../redis/connect.ts";
import { createStore, type Store } from "../redis/store.ts";
import { minReplicasOf } from "../redis-config.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { createObserver } from "./observe.ts";
import { createServices } from "./services.ts";

/** Milliseconds that a client may take to send its headers, and a whole request: a slow one holds no place for ever. */
const HEADERS_TIMEOUT = 10_000;
const REQUEST_TIMEOUT = 30_000;
/** Milliseconds between looks for requests that have taken longer. */
const TIMEOUT_CHECK = 1_000;
/** Open at once: far above what one process can serve, and a bound on what idle or slow ones can hold. */
const MAX_CONNECTIONS = 10_000;
/** Milliseconds for which a process that ends, with requests under way, still takes those of who has not noticed yet. */
const LAME_DUCK = 1_000;
/** Milliseconds between looks for connections that have become idle during a shutdown. */
const IDLE_CHECK = 50;

export interface RunningServer {
  readonly port: number;
  readonly store: Store;
  /** Resolves when Redis has been reached for the first time. */
  readonly connected: Promise<void>;
  /** Refuse to be ready, finish requests, close Redis. @returns false when the deadline cut requests off */
  stop(): Promise<boolean>;
}

/** Everything of a process but the listening. */
export async function createProcess(functions: readonly Servable[], config: Config, log: Logger) {
  const redis = connectRedis(config);
  const metrics = createMetrics();
  const store = createStore(redis, {
    minReplicas: minReplicasOf(config),
    observe: {
      script: (script, seconds) => metrics.redis.observe({ script }, seconds),
      wait: (outcome, seconds) => metrics.redisWait.observe({ outcome }, seconds),
    },
  });
  const state = { draining: false, connected: false };
  const connected = new Promise<void>((resolve) => redis.once("ready", resolve)).then(() => {
    state.connected = true;
    metrics.ready.set(performance.now() / 1000);
  });
  observeConnection(redis, metrics, log);

  const { services, gate, flush, close } = await createServices(functions, config, { store, metrics, log });
  const system = systemHandlers(metrics, () => state.connected && !state.draining);
  const app = createApp(functions, services, gate, {
    system,
    observe: createObserver(log, metrics),
    corsOrigins: config.LATCHKEY_CORS_ORIGINS,
  });
  return { app, redis, store, connected, state, flush, close };
}

/** @throws when the port cannot be had */
export async function startServer(
  functions: readonly Servable[],
  config: Config,
  log: Logger,
): Promise<RunningServer> {
  const { app, redis, store, connected, state, ...pipeline } = await createProcess(functions, config, log);
  const server = serve({
    fetch: app.fetch,
    port: config.PORT,
    // Demo passwords are for nobody else on the network.
    ...(config.LATCHKEY_MODE === "local" ? { hostname: "127.0.0.1" } : {}),
    serverOptions: {
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      connectionsCheckingInterval: TIMEOUT_CHECK,
    },
  }) as Server;
  server.maxConnections = MAX_CONNECTIONS;
  try {
    await new Promise<void>((resolve, reject) => server.once("listening", resolve).once("error", reject));
  } catch (error) {
    redis.disconnect();
    throw error;
  }

  const requests = countRequests(server);

  return {
    port: (server.address() as AddressInfo).port,
    store,
    connected,
    async stop() {
      state.draining = true;
      const deadline = Date.now() + config.LATCHKEY_SHUTDOWN_SECONDS * 1000;
      await Promise.race([requests.idle(), delay(Math.min(LAME_DUCK, deadline - Date.now()))]);
      const left = () => Math.max(0, deadline - Date.now());
      const [finished] = await Promise.all([closeServer(server, left()), pipeline.flush(left())]);
      await pipeline.close(left());
      // QUIT waits for the replies under way; without a connection there are none.
      if (redis.status === "ready") await redis.quit().catch(() => undefined);
      redis.disconnect();
      return finished;
    },
  };
}

/**
 * On every function's port and on no public route. Ready once Redis has answered; from then on an outage is for the
 * requests to report, because taking every pod out of rotation would hide what is wrong behind the gateway's error.
 */
function systemHandlers(metrics: Metrics, isReady: () => boolean): SystemHandlers {
  const ok = (c: Context) => c.json({ status: "ok" });
  return {
    "/health": ok,
    "/health/liveness": ok,
    // Asked of a process that has just started, so without the Headers that c.json() would make (late-fetch.ts).
    "/health/readiness": (c) => (isReady() ? ok(c) : Response.json({ status: "not ready" }, { status: 503 })),
    "/metrics": async (c) =>
      c.body(await metrics.registry.metrics(), 200, { "Content-Type": metrics.registry.contentType }),
  };
}

/** How many requests are being answered, by the server's own account. */
function countRequests(server: Server) {
  let open = 0;
  let onIdle = (): void => undefined;
  server.on("request", (_request, response) => {
    open += 1;
    response.once("close", () => {
      open -= 1;
      if (open === 0) onIdle();
    });
  });
  return {
    idle: () =>
      new Promise<void>((resolve) => {
        onIdle = resolve;
        if (open === 0) resolve();
      }),
  };
}

/** Stop accepting and let requests finish. @returns whether all did within `deadline` milliseconds */
async function closeServer(server: Server, deadline: number): Promise<boolean> {
  const closed = new Promise<true>((resolve) => server.close(() => resolve(true)));
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), deadline);
  });
  const finished = await Promise.race([closed, late]);
  clearInterval(idle);
  clearTimeout(timer);
  if (!finished) server.closeAllConnections();
  return finished;
}

/** What becomes of the connection, once each: a Redis that is away for long says the same again and again. */
function observeConnection(redis: Redis | Cluster, metrics: Metrics, log: Logger): void {
  let last = "";
  redis.on("ready", () => {
    metrics.redisConnections.inc();
    log.info("redis connected");
    last = "";
  });
  redis.on("error", (error: Error) => {
    if (error.message !== last) log.warn({ err: error }, "redis connection");
    last = error.message;
  });
}
