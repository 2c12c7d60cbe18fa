/** Prometheus metrics of one process. Aggregate by function, never by pod: pods come and go. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Seconds: from a cached read to a password hash on a busy machine. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    requests: new Counter({
      name: "latchkey_requests_total",
      help: "Answered requests",
      labelNames: ["function", "status"],
      registers,
    }),
    problems: new Counter({
      name: "latchkey_problems_total",
      help: "Answered problems by their code",
      labelNames: ["function", "code"],
      registers,
    }),
    duration: new Histogram({
      name: "latchkey_request_duration_seconds",
      help: "Time from a request's headers to its answer",
      labelNames: ["function"],
      buckets: BUCKETS,
      registers,
    }),
    inFlight: new Gauge({
      name: "latchkey_requests_in_flight",
      help: "Requests that are being answered now",
      registers,
    }),
    ready: new Gauge({
      name: "latchkey_ready_seconds",
      help: "From the start of the process until it was ready; 0 while it is not",
      registers,
    }),
    redis: new Histogram({
      name: "latchkey_redis_duration_seconds",
      help: "Time of a Redis script as the function sees it",
      labelNames: ["script"],
      buckets: BUCKETS,
      registers,
    }),
    redisWait: new Histogram({
      name: "latchkey_redis_wait_seconds",
      help: "Time until replicas had what was written, per group of operations",
      labelNames: ["outcome"],
      buckets: BUCKETS,
      registers,
    }),
    redisConnections: new Counter({
      name: "latchkey_redis_connections_total",
      help: "Connections to Redis that became ready; more than one means that one was lost",
      registers,
    }),
    loginFailures: new Counter({
      name: "latchkey_login_failures_total",
      help: "Logins that were not let in",
      labelNames: ["reason"],
      registers,
    }),
    unaudited: new Counter({
      name: "latchkey_unaudited_operations_total",
      help: "Operations that went without an audit entry because the outbox was full",
      registers,
    }),
  };
}
