/** Panels about what stands behind the functions: Redis, and the audit trail's way from there to Loki. */
import type { Panel } from "./grafana.ts";
import { column, growth, lately, line, perSecond, quantile } from "./service-queries.ts";

export const redis: Panel[] = [
  {
    ...line,
    title: "Redis scripts, slowest 1 %",
    description: "99 of 100 calls of a script took at most this long, the way to Redis and back included.",
    unit: "s",
    queries: [{ expr: quantile(0.99, "redis_duration_seconds", "script"), legend: "{{script}}" }],
  },
  {
    ...line,
    title: "Waiting for replicas, slowest 1 %",
    description:
      "99 of 100 groups of writes were on the replicas after at most this long; too_few and failed were not.",
    unit: "s",
    queries: [{ expr: quantile(0.99, "redis_wait_seconds", "outcome"), legend: "{{outcome}}" }],
  },
  {
    ...column,
    title: "Redis failovers, by connections made anew",
    description:
      "A process connects once when it starts. More connections than starts: they were lost, as in a failover.",
    unit: "short",
    queries: [
      { expr: growth("redis_connections_total", ""), legend: "connections" },
      { expr: growth("process_starts", ""), legend: "starts" },
    ],
  },
  {
    ...column,
    title: "Requests that Redis did not serve",
    description:
      "Answered 503 because Redis was away, slow, or without enough replicas: a few during a failover.",
    unit: "short",
    queries: [
      {
        expr: growth("problems_total", "code", 'code=~"store_unavailable|outcome_unknown|not_replicated"'),
        legend: "{{code}}",
      },
    ],
  },
];

export const audit: Panel[] = [
  {
    ...line,
    title: "Entries waiting in Redis",
    description: "All tenants together, the tenant with most, and how many one tenant may have.",
    unit: "short",
    queries: [
      { expr: lately("latchkey_outbox_entries"), legend: "all tenants" },
      { expr: lately("latchkey_outbox_largest_entries"), legend: "largest outbox" },
      { expr: lately("latchkey_outbox_limit_entries"), legend: "limit of one" },
    ],
  },
  {
    ...line,
    title: "Age of the oldest entry",
    description: "In Redis until Loki has it, and in the memory of audit-ship while it is being sent.",
    unit: "s",
    queries: [
      { expr: lately("latchkey_outbox_oldest_seconds"), legend: "in Redis" },
      { expr: lately("latchkey_ship_oldest_seconds"), legend: "in audit-ship" },
    ],
  },
  {
    ...line,
    title: "Entries per second on their way",
    description:
      "What functions publish, what audit-ship receives, and what Loki has. Duplicates come from the relay.",
    unit: "ops",
    queries: [
      { expr: perSecond("audit_published_total", ""), legend: "published" },
      { expr: perSecond("ship_received_total", ""), legend: "received" },
      { expr: perSecond("ship_duplicates_total", ""), legend: "received twice" },
      { expr: perSecond("ship_shipped_total", ""), legend: "in Loki" },
    ],
  },
  {
    ...column,
    title: "Entries left to the relay by reason",
    description: "What the broker did not take at once. audit-relay publishes it again within a minute.",
    unit: "short",
    queries: [{ expr: growth("audit_left_total", "reason"), legend: "{{reason}}" }],
  },
  {
    ...column,
    title: "Events published by the broker's answer",
    description: "POSTs to the broker by status; a word stands for a POST without an answer.",
    unit: "short",
    queries: [{ expr: growth("audit_post_duration_seconds_count", "status"), legend: "{{status}}" }],
  },
  {
    ...column,
    title: "Pushes to Loki by its answer",
    description: "Only 204 means stored; 0 is no answer.",
    unit: "short",
    queries: [{ expr: growth("ship_push_duration_seconds_count", "status"), legend: "{{status}}" }],
  },
  {
    ...line,
    title: "Time of a push to Loki",
    description: "Half and 99 of 100 pushes took at most this long.",
    unit: "s",
    queries: [0.5, 0.99].map((share) => ({
      expr: quantile(share, "ship_push_duration_seconds", ""),
      legend: `${share * 100} %`,
    })),
  },
  {
    ...column,
    title: "Entries and events that went wrong",
    description:
      "Quarantined: Loki will never take the entry. Dead letter: nobody took the event. Both are kept.",
    unit: "short",
    queries: [
      { expr: growth("ship_quarantined_total", "reason"), legend: "quarantined: {{reason}}" },
      { expr: growth("dead_letters_total", "reason"), legend: "dead letter: {{reason}}" },
      { expr: growth("unaudited_operations_total", ""), legend: "operations without an entry" },
    ],
  },
];
