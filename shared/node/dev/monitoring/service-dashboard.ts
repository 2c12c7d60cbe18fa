/** The dashboard of the service as a whole, of all tenants, from Prometheus. By function, never by pod. */
import { dashboardJson, type Panel, type Row } from "./grafana.ts";

const datasource = { type: "prometheus", uid: "prometheus" } as const;

/** How much counters have grown in the time that a point of a line stands for, or in the dashboard's time. */
const growth = (counter: string, by: string, selector = "", range = "$__interval"): string =>
  `sum${by === "" ? "" : ` by (${by})`} (sum_over_time(latchkey:${counter}:increase1m${braced(selector)}[${range}]))`;
const total = (counter: string, selector = ""): string => growth(counter, "", selector, "$__range");
const perSecond = (counter: string, by: string, selector = ""): string =>
  `${growth(counter, by, selector)} / ($__interval_ms / 1000)`;
/** @param share 0.99: as much as 99 of 100 take at most */
const quantile = (share: number, histogram: string, by: string, selector = ""): string =>
  `histogram_quantile(${share}, ${growth(`${histogram}_bucket`, [by, "le"].filter((name) => name !== "").join(", "), selector)})`;
const braced = (selector: string): string => (selector === "" ? "" : `{${selector}}`);
/** What one process exports that comes and goes: the last that was heard of it. */
const lately = (gauge: string): string => `max(last_over_time(${gauge}[5m]))`;

const chosen = 'function=~"$function"';
const line = { show: "lines", width: 12 } as const;
const column = { show: "columns", width: 12 } as const;
const number = { show: "number", width: 3 } as const;
/** Where nothing was counted, nothing happened. A gauge of which nothing is known stays without a number. */
const counted = { ...number, noValue: "0" } as const;

const overview: Panel[] = [
  {
    ...counted,
    title: "Requests",
    description: "Answered in the time that the dashboard shows.",
    unit: "short",
    queries: [{ expr: total("requests_total") }],
  },
  {
    ...counted,
    title: "Requests that failed",
    description: "The share that was answered 5xx.",
    unit: "percentunit",
    thresholds: [0.001, 0.05],
    queries: [
      { expr: `(${total("requests_total", 'status=~"5.."')} or vector(0)) / ${total("requests_total")}` },
    ],
  },
  {
    ...number,
    title: "Oldest entry not in Loki",
    description: "Since when an audit entry has been waiting in Redis. Seconds are usual.",
    unit: "s",
    thresholds: [60, 600],
    queries: [{ expr: lately("latchkey_outbox_oldest_seconds") }],
  },
  {
    ...number,
    title: "Entries waiting",
    description: "Audit entries of all tenants that wait in Redis for Loki.",
    unit: "short",
    queries: [{ expr: lately("latchkey_outbox_entries") }],
  },
  {
    ...counted,
    title: "Tenants on hold",
    description:
      "Tenants whose pushes Loki answers with what no retry cures. audit-ship runs while there are any.",
    unit: "short",
    thresholds: [1, 1],
    queries: [{ expr: lately("latchkey_ship_held_tenants") }],
  },
  {
    ...number,
    title: "Dead letters kept",
    description: "Events that could not be delivered: npm run admin -- list-dead-letters.",
    unit: "short",
    thresholds: [1, 100],
    queries: [{ expr: lately("latchkey_dead_letters") }],
  },
  {
    ...counted,
    title: "Entries quarantined",
    description: "Audit entries that Loki will never take: npm run admin -- quarantined lists a tenant's.",
    unit: "short",
    thresholds: [1, 100],
    queries: [{ expr: total("ship_quarantined_total") }],
  },
  {
    ...counted,
    title: "Logins refused",
    description: "Wrong passwords, unknown names, and attempts beyond the limit.",
    unit: "short",
    queries: [{ expr: total("login_failures_total") }],
  },
];

const requests: Panel[] = [
  {
    ...line,
    title: "Requests per second by function",
    description: "Every request that a function has answered; `none` is a path that no function serves.",
    unit: "reqps",
    queries: [{ expr: perSecond("requests_total", "function", chosen), legend: "{{function}}" }],
  },
  {
    ...column,
    title: "Requests by function and status",
    description: "How many were answered with which HTTP status.",
    unit: "short",
    queries: [
      { expr: growth("requests_total", "function, status", chosen), legend: "{{function}} {{status}}" },
    ],
  },
  {
    ...line,
    title: "Slowest requests by function",
    description: "99 of 100 requests took at most this long, as the function sees it.",
    unit: "s",
    queries: [
      { expr: quantile(0.99, "request_duration_seconds", "function", chosen), legend: "{{function}}" },
    ],
  },
  {
    ...line,
    title: "Time of a request",
    description: "Half, 90 of 100 and 99 of 100 requests to the chosen functions took at most this long.",
    unit: "s",
    queries: [0.5, 0.9, 0.99].map((share) => ({
      expr: quantile(share, "request_duration_seconds", "", chosen),
      legend: `${share * 100} %`,
    })),
  },
  {
    ...column,
    title: "Problems by code",
    description: "Requests that were not served, by the code of the answer. The README lists the codes.",
    unit: "short",
    queries: [{ expr: growth("problems_total", "code", chosen), legend: "{{code}}" }],
  },
  {
    ...column,
    title: "Refused logins by reason",
    description: "too_many_attempts is the limit at work; user_unknown is somebody who tries names.",
    unit: "short",
    queries: [{ expr: growth("login_failures_total", "reason"), legend: "{{reason}}" }],
  },
];

const pods: Panel[] = [
  {
    ...line,
    title: "Pods by function",
    description: "Pods that Prometheus reaches. A function without requests has none.",
    unit: "short",
    queries: [{ expr: `count by (function) (up{job="latchkey", ${chosen}} == 1)`, legend: "{{function}}" }],
  },
  {
    ...column,
    title: "Cold starts by function",
    description: "Processes that have started: pods for new load, and containers that were started again.",
    unit: "short",
    queries: [{ expr: growth("process_starts", "function", chosen), legend: "{{function}}" }],
  },
  {
    ...line,
    title: "Time until a process is ready",
    description:
      "From the start of the slowest process to its first answer from Redis: its part of a cold start.",
    unit: "s",
    queries: [{ expr: `max by (function) (latchkey_ready_seconds{${chosen}} > 0)`, legend: "{{function}}" }],
  },
  {
    ...line,
    title: "Memory of the largest process",
    description: "Resident memory, to be compared with the function's limit.",
    unit: "bytes",
    queries: [
      {
        expr: `max by (function) (process_resident_memory_bytes{job="latchkey", ${chosen}})`,
        legend: "{{function}}",
      },
    ],
  },
  {
    ...line,
    title: "Event loop lag",
    description:
      "How late the busiest process is with what it should do now. Above 0.1 s it wants more pods.",
    unit: "s",
    queries: [
      {
        expr: `max by (function) (nodejs_eventloop_lag_p99_seconds{job="latchkey", ${chosen}})`,
        legend: "{{function}}",
      },
    ],
  },
];

const redis: Panel[] = [
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
    title: "Connections to Redis, and cold starts",
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

const audit: Panel[] = [
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

const rows: Row[] = [
  { title: "At a glance", panels: overview },
  { title: "Requests", panels: requests },
  { title: "Functions that come and go", panels: pods },
  { title: "Redis", panels: redis },
  { title: "The audit trail's way to Loki", panels: audit },
];

export const serviceDashboard = (): string =>
  dashboardJson({
    uid: "latchkey-service",
    title: "Latchkey: service",
    description: "Requests, functions, Redis and the audit trail's way to Loki, of all tenants together.",
    datasource,
    variables: [
      {
        ...{ name: "function", label: "Function", type: "query", datasource },
        query: { query: "label_values(latchkey:requests_total:increase1m, function)", refId: "functions" },
        ...{ refresh: 2, sort: 1, multi: true, includeAll: true, allValue: ".*" },
        current: { text: ["All"], value: ["$__all"] },
      },
    ],
    rows,
  });
