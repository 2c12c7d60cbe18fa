/** The dashboard of the service as a whole, of all tenants, from Prometheus. By function, never by pod. */
import { pods, requests } from "./function-panels.ts";
import { dashboardJson, type Panel, type Row } from "./grafana.ts";
import { counted, lately, number, total } from "./service-queries.ts";
import { audit, redis } from "./store-panels.ts";

const datasource = { type: "prometheus", uid: "prometheus" } as const;

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
