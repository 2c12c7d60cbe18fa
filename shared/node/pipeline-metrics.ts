/** Metrics of the audit pipeline. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { ReasonClass } from "../dead-letter.ts";
import type { OutboxStats } from "../redis/outbox.ts";
import type { ShipStats } from "../ship-buffer.ts";
import type { ShipperEvent } from "../ship-outcome.ts";
import type { PublisherObserver } from "./publisher.ts";

/** Seconds: from a broker that answers at once to one that does so after its consumers. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function observePublisher(registry: Registry): PublisherObserver {
  const registers = [registry];
  const published = new Counter({
    name: "latchkey_audit_published_total",
    help: "Audit entries that the sink has taken",
    registers,
  });
  const left = new Counter({
    name: "latchkey_audit_left_total",
    help: "Audit entries left to the relay",
    labelNames: ["reason"],
    registers,
  });
  const posts = new Histogram({
    name: "latchkey_audit_post_duration_seconds",
    help: "Time of one POST to the sink",
    labelNames: ["status"],
    buckets: BUCKETS,
    registers,
  });
  return {
    published: (entries) => published.inc(entries),
    left: (reason, entries) => left.inc({ reason }, entries),
    posted: (status, seconds) => posts.observe({ status: String(status) }, seconds),
  };
}

export function observeDeadLetters(registry: Registry): (reason: ReasonClass, dropped: number) => void {
  const registers = [registry];
  const kept = new Counter({
    name: "latchkey_dead_letters_total",
    help: "Events that nobody could deliver",
    labelNames: ["reason"],
    registers,
  });
  const gone = new Counter({
    name: "latchkey_dead_letters_dropped_total",
    help: "Dead letters that newer ones have displaced",
    registers,
  });
  return (reason, dropped) => {
    kept.inc({ reason });
    gone.inc(dropped);
  };
}

/** What waits in Redis, of all tenants. */
export interface Backlog {
  readonly outboxes: OutboxStats;
  readonly deadLetters: number;
}

/**
 * For the one function that is called every minute whatever else happens: the others may have no process to be asked.
 * @param look asked once at every scrape; when it cannot tell, there are no samples @param limit of one outbox
 */
export function observeBacklog(registry: Registry, look: () => Promise<Backlog>, limit: number): void {
  let asked: Promise<Backlog> | undefined;
  const ask = (): Promise<Backlog> => {
    asked ??= look().finally(() => {
      asked = undefined;
    });
    return asked;
  };
  const gauge = (name: string, help: string, value: (backlog: Backlog) => number) =>
    new Gauge({
      name: `latchkey_${name}`,
      help,
      registers: [registry],
      async collect() {
        await ask().then(
          (backlog) => this.set(value(backlog)),
          () => this.remove(),
        );
      },
    });
  gauge("outbox_entries", "Audit entries of all tenants that wait in Redis", (now) => now.outboxes.entries);
  gauge(
    "outbox_oldest_seconds",
    "Age of the oldest entry in all outboxes",
    (now) => now.outboxes.oldestMs / 1000,
  );
  gauge(
    "outbox_largest_entries",
    "Entries in the largest outbox, among those that have waited longest",
    (now) => now.outboxes.largest,
  );
  gauge("dead_letters", "Dead letters that are kept for an operator", (now) => now.deadLetters);
  new Gauge({
    name: "latchkey_outbox_limit_entries",
    help: "Entries that may wait in the outbox of one tenant",
    registers: [registry],
  }).set(limit);
}

/** @param stats what the shipper holds, asked at every scrape */
export function observeShipper(registry: Registry, stats: () => ShipStats): (event: ShipperEvent) => void {
  const registers = [registry];
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `latchkey_ship_${name}_total`, help, labelNames, registers });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `latchkey_ship_${name}`,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  gauge("waiting_entries", "Entries in audit-ship that are not settled yet", () => stats().entries);
  gauge("oldest_seconds", "Age of the oldest entry in audit-ship", () => stats().oldestMs / 1000);
  gauge("held_tenants", "Tenants whose pushes Loki answers with what no retry cures", () => stats().held);
  const received = counter("received", "Entries that events brought to audit-ship");
  const duplicates = counter("duplicates", "Entries that audit-ship had already");
  const shipped = counter("shipped", "Entries that Loki has");
  const refused = counter("refused", "Entries that audit-ship had no room for", "reason");
  const retried = counter("retried", "Pushes that go again", "status");
  const bisected = counter("bisected", "Batches cut in half to find what Loki refuses", "status");
  const quarantined = counter("quarantined", "Entries that Loki will never take", "reason");
  const failures = counter(
    "store_failures",
    "Failed operations on the outbox or the quarantine",
    "operation",
  );
  const forgotten = counter("forgotten", "Entries given back to the outbox for want of room");
  const pushes = new Histogram({
    name: "latchkey_ship_push_duration_seconds",
    help: "Time of one push to Loki",
    labelNames: ["status"],
    buckets: BUCKETS,
    registers,
  });

  return function observe(event) {
    switch (event.type) {
      case "received":
        received.inc(event.entries);
        return duplicates.inc(event.duplicates);
      case "refused":
        return refused.inc({ reason: event.reason }, event.entries);
      case "push":
        return pushes.observe({ status: String(event.status) }, event.seconds);
      case "shipped":
        return shipped.inc(event.entries);
      case "retried":
        return retried.inc({ status: String(event.status) });
      case "bisected":
        return bisected.inc({ status: String(event.status) });
      case "quarantined":
        return quarantined.inc({ reason: event.class });
      case "store_failed":
        return failures.inc({ operation: event.operation });
      case "forgotten":
        return forgotten.inc(event.entries);
      case "held":
      case "released":
        return;
    }
  };
}
