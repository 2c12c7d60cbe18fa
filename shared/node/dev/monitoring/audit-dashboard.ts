/**
 * The dashboard of one tenant's audit trail, from its own Loki space: the tenant is chosen by the data source, whose
 * X-Scope-OrgID header Loki goes by.
 *
 * An entry may be stored twice, after a crash on its way. Log queries show exact duplicates once, metric queries count
 * them, so every number here is the count of different event_ids. Both lie at the same nanosecond, and so in the same step.
 */
import { auditOutcomes } from "../../../audit.ts";
import { dashboardJson, type Panel, type Row } from "./grafana.ts";

// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's variable
const datasource = { type: "loki", uid: "${tenant}" } as const;

const entries = '{job="audit_logs", action=~"$action"} | outcome=~"$outcome"';
const denied = '{job="audit_logs", action=~"$action"} | outcome="denied"';

/** How many entries there are in all, or for each value of some labels. @param log what they are */
function count(log: string, { by = "", range = "$__interval" } = {}): string {
  const [outer, inner] = by === "" ? ["", "event_id"] : [` by (${by})`, `${by}, event_id`];
  return `count${outer} (sum by (${inner}) (count_over_time(${log} [${range}])))`;
}
const total = (log: string): string => count(log, { range: "$__range" });
const top = (log: string, by: string): string => `topk(10, ${count(log, { by, range: "$__range" })})`;

const number = { show: "number", width: 6, unit: "short", noValue: "0" } as const;
const column = { show: "columns", width: 12, unit: "short" } as const;
const ranking = { show: "ranking", width: 8, unit: "short" } as const;

const overview: Panel[] = [
  {
    ...number,
    title: "Entries",
    description: "Everything that anybody did or tried, of the chosen actions and outcomes.",
    queries: [{ expr: total(entries) }],
  },
  {
    ...number,
    title: "Denied requests",
    description: "Refused for want of a permission or a valid credential.",
    thresholds: [1, 100],
    queries: [{ expr: total(denied) }],
  },
  {
    ...number,
    title: "Failed logins",
    description: "Attempts with a wrong password that were let in to be checked.",
    thresholds: [1, 100],
    queries: [{ expr: total('{job="audit_logs", action="login_failed"}') }],
  },
  {
    ...number,
    title: "API keys created or deleted",
    description: "Credentials that programs have got or lost.",
    queries: [{ expr: total('{job="audit_logs", action=~"(create|delete)_api_key"} | outcome="success"') }],
  },
];

const activity: Panel[] = [
  {
    ...column,
    title: "Activity by action",
    description: "How often each operation was done or tried.",
    queries: [{ expr: count(entries, { by: "action" }), legend: "{{action}}" }],
  },
  {
    ...column,
    title: "Activity by outcome",
    description:
      "success: it was done. denied: it was not allowed. failure: it was allowed and could not be done.",
    queries: [{ expr: count(entries, { by: "outcome" }), legend: "{{outcome}}" }],
  },
  {
    ...column,
    title: "Denied requests by action",
    description: "What was tried without being allowed.",
    queries: [{ expr: count(denied, { by: "action" }), legend: "{{action}}" }],
  },
  {
    ...column,
    title: "Reasons of what was denied or failed",
    description: "The internal reason, finer than what the caller was told.",
    queries: [
      {
        expr: count(`${entries} | json reason="details.reason" | reason!=""`, { by: "reason" }),
        legend: "{{reason}}",
      },
    ],
  },
];

const rankings: Panel[] = [
  {
    ...ranking,
    title: "Busiest API keys",
    description: "Keys by id that acted, or were acted upon, most often.",
    queries: [{ expr: top(`${entries} | key_id!=""`, "key_id"), legend: "{{key_id}}" }],
  },
  {
    ...ranking,
    title: "Busiest users",
    description: "Usernames in most entries; of an API key it is its creator's.",
    queries: [{ expr: top(`${entries} | username!=""`, "username"), legend: "{{username}}" }],
  },
  {
    ...ranking,
    title: "Most used items",
    description: "Keys of items that were read or changed most often.",
    queries: [
      {
        expr: top(
          `${entries} | json target_type="target.type", item="target.id" | target_type="item" | item!=""`,
          "item",
        ),
        legend: "{{item}}",
      },
    ],
  },
];

/** Columns of the table of entries, in this order. */
const columns = {
  Time: "Time",
  action: "Action",
  outcome: "Outcome",
  reason: "Reason",
  username: "Username",
  actor_type: "Actor",
  key_id: "API key",
  target_type: "Target",
  target: "Target's id",
  source_ip: "Source address",
  request_id: "Request id",
  seq: "Number",
  event_id: "Entry id",
};
const parsed =
  'json actor_type="actor.type", target_type="target.type", target="target.id", source_ip="source_ip", reason="details.reason"';

const list: Panel[] = [
  {
    title: "Entries, newest first",
    description: "At most 1000 of the chosen time. `Contains` above looks for a text in the whole entry.",
    ...{ show: "entries", width: 24, unit: "string" },
    queries: [
      {
        expr: `{job="audit_logs", action=~"$action"} |= \${contains:doublequote} | outcome=~"$outcome" | ${parsed}`,
      },
    ],
    transformations: [
      { id: "extractFields", options: { source: "labels", format: "auto", replace: true, keepTime: true } },
      {
        id: "organize",
        options: {
          indexByName: Object.fromEntries(Object.keys(columns).map((name, index) => [name, index])),
          renameByName: columns,
          excludeByName: { job: true, tenant_id: true, service_name: true },
        },
      },
    ],
  },
];

const rows: Row[] = [
  { title: "At a glance", panels: overview },
  { title: "Activity", panels: activity },
  { title: "Who and what", panels: rankings },
  { title: "Entries", panels: list },
];

export const auditDashboard = (): string =>
  dashboardJson({
    uid: "latchkey-audit",
    title: "Latchkey: audit trail of a tenant",
    description: "What one tenant's people and programs did and tried. Choose the tenant above.",
    datasource,
    variables: [
      { name: "tenant", label: "Tenant", type: "datasource", query: "loki", refresh: 1 },
      {
        ...{ name: "action", label: "Action", type: "query", datasource },
        query: { label: "action", stream: '{job="audit_logs"}', type: 1, refId: "actions" },
        ...{ refresh: 2, sort: 1, multi: true, includeAll: true, allValue: ".+" },
        current: { text: ["All"], value: ["$__all"] },
      },
      {
        ...{ name: "outcome", label: "Outcome", type: "custom", query: auditOutcomes.join(",") },
        ...{ multi: true, includeAll: true, allValue: ".+" },
        current: { text: ["All"], value: ["$__all"] },
      },
      { name: "contains", label: "Contains", type: "textbox", query: "", current: { text: "", value: "" } },
    ],
    rows,
  });
