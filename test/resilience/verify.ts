/** Whether everything that was acknowledged is where it should be: each entry in Loki once, each item as it was written. */
import { setTimeout as sleep } from "node:timers/promises";
import type { AuditEntry } from "../../shared/audit.ts";
import type { Sent } from "./activity.ts";
import type { Target } from "./target.ts";

/** A tenant's row. */
export interface Findings {
  readonly tenant: string;
  readonly acknowledged: number;
  readonly unknown: number;
  /** Of the unknown ones. */
  readonly happened: number;
  /** Different entries of this run in Loki, by their ids. */
  readonly inLoki: number;
  readonly missing: number;
  readonly doubled: number;
  readonly gaps: number;
  readonly violations: readonly string[];
}

const deed = ({ action, key }: Sent): string => `${action} ${key}`;

/** How many of one kind are named. */
const NAMED = 5;

/** @param sent all that was sent for this tenant  @param lines all that Loki has of it since the run began */
export function judge(
  tenant: string,
  sent: readonly Sent[],
  lines: readonly (AuditEntry | undefined)[],
): Findings {
  const entries = lines.filter((entry) => entry !== undefined);
  const byId = Map.groupBy(entries, ({ id }) => id);
  const doubled = [...byId.values()].filter((same) => same.length > 1).map(([entry]) => entry as AuditEntry);
  const distinct = [...byId.values()].map(([entry]) => entry as AuditEntry);
  // Not by the request's id: some gateways give requests one of their own. No item sees one action twice.
  const byDeed = Map.groupBy(distinct, ({ action, target }) => `${action} ${target.id}`);
  const seqs = new Set(distinct.map(({ seq }) => seq));
  const first = Math.min(...seqs);
  const gaps = seqs.size === 0 ? 0 : Math.max(...seqs) - first + 1 - seqs.size;

  const done = sent.filter(({ outcome }) => outcome === "done");
  const unknown = sent.filter(({ outcome }) => outcome === "unknown");
  const of = (one: Sent) => byDeed.get(deed(one)) ?? [];
  const missing = done.filter((one) => of(one).length === 0);
  const repeated = sent.filter((one) => of(one).length > 1);
  const other = done.filter((one) => {
    const [entry] = of(one);
    return entry !== undefined && entry.outcome !== "success";
  });
  const foreign = distinct.filter((entry) => entry.tenant_id !== tenant);
  const violations = [
    sentence(missing, "acknowledged without an entry in Loki", deed),
    sentence(repeated, "entered more than once", deed),
    sentence(doubled, "in Loki twice", ({ id }) => id),
    sentence(other, "entered as no success", deed),
    sentence(foreign, "of another tenant", ({ id }) => id),
    ...(gaps === 0 ? [] : [`${gaps} numbers are missing between entries`]),
    ...(lines.length === entries.length ? [] : [`${lines.length - entries.length} lines are no entries`]),
  ];
  return {
    tenant,
    acknowledged: done.length,
    unknown: unknown.length,
    happened: unknown.filter((one) => of(one).length > 0).length,
    inLoki: sent.filter((one) => of(one).length > 0).length,
    missing: missing.length,
    doubled: doubled.length + repeated.length,
    gaps,
    violations: violations.filter((text) => text !== "").map((text) => `${tenant}: ${text}`),
  };
}

function sentence<T>(all: readonly T[], what: string, name: (one: T) => string): string {
  if (all.length === 0) return "";
  const more = all.length > NAMED ? ", …" : "";
  return `${all.length} ${what}: ${all.slice(0, NAMED).map(name).join(", ")}${more}`;
}

/** Items that do not have what their last acknowledged writer has written, nor what somebody unanswered has after it. */
export async function lostItems(target: Target, sent: readonly Sent[]): Promise<string[]> {
  const writes = sent.filter(({ action }) => action !== "get_key");
  const lost: string[] = [];
  for (const [tenant, ofTenant] of Map.groupBy(writes, (one) => one.tenant)) {
    const token = target.callers.find((caller) => caller.tenant === tenant)?.token ?? "";
    for (const [key, ofKey] of Map.groupBy(ofTenant, (one) => one.key)) {
      const last = ofKey.findLastIndex(({ outcome }) => outcome === "done");
      if (last === -1) continue;
      const requestId = `${ofKey[0]?.requestId}-check`;
      const { status, body } = await insist(() =>
        target.request({ method: "GET", path: `/data/${key}`, token, requestId }),
      );
      const value = status === 200 ? (body as { value?: unknown }).value : undefined;
      if (!ofKey.slice(last).some((one) => one.value === value))
        lost.push(`${tenant}: the item ${key} is lost (${status}, ${JSON.stringify(value)})`);
    }
  }
  return lost;
}

/** Tries for an answer of one request, and milliseconds between them. */
const TRIES = 20;
const PAUSE = 500;

/** Ask until there is an answer other than 503. @throws when there is none */
export async function insist<T extends { readonly status: number }>(ask: () => Promise<T>): Promise<T> {
  for (let left = TRIES; ; left -= 1) {
    try {
      const answer = await ask();
      if (![502, 503, 504].includes(answer.status) || left === 1) return answer;
    } catch (error) {
      if (left === 1) throw error;
    }
    await sleep(PAUSE);
  }
}
