/** The audit pipeline as it is deployed: functions, a broker, the functions that take events, and a Loki. */
import { parseConfig } from "../../shared/config.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { loadEventFunctions } from "../../shared/node/functions.ts";
import { createLog } from "../../shared/node/log.ts";
import { startServer } from "../../shared/node/server.ts";
import { type BrokerOptions, startBroker } from "./broker-double.ts";
import { createHarness, type TestTenant } from "./harness.ts";
import { lokiTools } from "./loki-tools.ts";
import { ownRedis } from "./own-redis.ts";

/** The functions that take events, in a process's worth of their own. */
async function startEventFunctions(env: Record<string, string>) {
  const config = parseConfig({ LATCHKEY_MODE: "local", PORT: "0", ...(await makeSecrets("demo")), ...env });
  const server = await startServer(await loadEventFunctions(), config, createLog("silent", []));
  return { origin: `http://127.0.0.1:${server.port}`, stop: server.stop };
}

/** @param broker how the broker behaves: quick by default */
export async function startPipeline(lokiUrl: string, broker: Partial<BrokerOptions> = {}) {
  const store = await ownRedis();
  // The relay publishes too, to a broker that needs the address of audit-ship before it starts.
  const ship = await startEventFunctions({ REDIS_URL: store.url, LOKI_URL: lokiUrl });
  const options = {
    subscriber: `${ship.origin}/events/audit-ship`,
    deadLetterSink: `${ship.origin}/events/audit-dead-letter`,
    backoffMs: 10,
    timeoutMs: 5_000,
    ...broker,
  };
  const sink = await startBroker(options);
  const relay = await startEventFunctions({ REDIS_URL: store.url, LOKI_URL: lokiUrl, K_SINK: sink.url });
  const api = await createHarness({ REDIS_URL: store.url, LOKI_URL: lokiUrl, K_SINK: sink.url });
  return {
    api,
    sink,
    ship,
    relay,
    store,
    loki: lokiTools(lokiUrl),
    /** What a PingSource does every minute. */
    tick: (id: "audit-relay" | "data-expire") => fetch(`${relay.origin}/events/${id}`, { method: "POST" }),
    /** Entries that wait in the tenant's outbox. */
    waiting: (tenant: TestTenant) => api.redis.xlen(tenant.keys.outbox),
    async stop() {
      await api.close();
      await sink.kill();
      await Promise.all([ship.stop(), relay.stop()]);
      await store.stop();
    },
  };
}
