/**
 * Two tenants work while a function, the Redis that takes writes and the shipper are killed, one after the other. After each,
 * every acknowledged operation must have its one entry in Loki, and work must go on. Nothing is taken for granted: what cannot
 * be shown is a violation.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Sent, startActivity } from "./activity.ts";
import { type Target, type Victim, victims } from "./target.ts";
import { type Findings, insist, judge, lostItems } from "./verify.ts";

export interface Options {
  /** Acknowledged operations of each tenant before a kill, and after it. */
  readonly operations: number;
  /** Milliseconds for work to go on, and for entries to arrive. */
  readonly patience: number;
  /** Milliseconds that each program rests after an item. */
  readonly pause: number;
}

export interface Phase {
  readonly name: string;
  /** What was killed. */
  readonly killed: string;
  /** Milliseconds: the longest time from the kill on in which nothing was acknowledged. */
  readonly outage: number | undefined;
  /** Milliseconds from the offload until everything was in Loki. */
  readonly arrival: number;
  readonly findings: readonly Findings[];
}

export interface Result {
  readonly phases: readonly Phase[];
  readonly violations: readonly string[];
}

/** Milliseconds between two looks at Loki, and at what was acknowledged. */
const LOOK = 500;
const POLL = 20;

export async function resilience(
  target: Target,
  options: Options,
  say: (line: string) => void,
): Promise<Result> {
  const run = `r${Date.now().toString(36)}`;
  // Clocks of a cluster may differ by this.
  const since = new Date(Date.now() - 60_000);
  const sent: Sent[] = [];
  const violations: string[] = [];
  const phases: Phase[] = [];
  for (const victim of [undefined, ...victims]) {
    const name = victim === undefined ? "nothing is killed" : `kill of ${victim}`;
    say(`${name} …`);
    const { killed, outage, problems } = await work(target, `${run}-${phases.length}`, victim, sent, options);
    const offload = await triggerOffload(target, `${run}-${phases.length}-offload`);
    const began = Date.now();
    const findings = await untilThere(target, sent, since, options.patience);
    phases.push({ name, killed, outage, arrival: Date.now() - began, findings });
    violations.push(
      ...[...problems, ...offload, ...findings.flatMap((one) => one.violations)].map(
        (text) => `${name}: ${text}`,
      ),
    );
    if (violations.length > 0) break;
  }
  violations.push(...(await lostItems(target, sent)));
  return { phases, violations };
}

/** Activity until enough was acknowledged, before and after a kill. */
async function work(
  target: Target,
  run: string,
  victim: Victim | undefined,
  sent: Sent[],
  { operations, patience, pause }: Options,
) {
  const activity = startActivity(target, run, pause);
  const problems: string[] = [];
  const enough = async (from: number, when: string) => {
    const deadline = Date.now() + patience;
    for (;;) {
      const counts = target.callers.map(({ tenant }) => acknowledged(activity.sent, from, tenant).length);
      if (counts.every((count) => count >= operations)) return;
      if (Date.now() > deadline) {
        problems.push(
          `only ${counts.join(" and ")} operations were acknowledged ${when} within ${patience} ms`,
        );
        return;
      }
      await sleep(POLL);
    }
  };
  let killed = "–";
  let outage: number | undefined;
  try {
    await enough(0, "before");
    if (victim !== undefined) {
      const from = Date.now();
      killed = await target.kill(victim);
      await enough(Date.now(), "after the kill");
      outage = longestSilence(activity.sent, from);
    }
  } finally {
    await activity.stop();
    sent.push(...activity.sent);
  }
  return { killed, outage, problems: [...problems, ...activity.odd] };
}

const acknowledged = (sent: readonly Sent[], from: number, tenant?: string): Sent[] =>
  sent.filter(
    (one) =>
      one.outcome === "done" && one.answeredAt >= from && (tenant === undefined || one.tenant === tenant),
  );

function longestSilence(sent: readonly Sent[], from: number): number {
  const times = [from, ...acknowledged(sent, from).map(({ answeredAt }) => answeredAt)].sort((a, b) => a - b);
  return Math.max(...times.map((time, index) => (times[index + 1] ?? time) - time));
}

/** What an admin of each tenant does to see it all in Loki now. @returns what was wrong */
async function triggerOffload(target: Target, requestId: string): Promise<string[]> {
  const answers = await Promise.all(
    target.callers.map(({ token }) =>
      insist(() => target.request({ method: "POST", path: "/trigger-log-offload", token, requestId })),
    ),
  );
  return answers
    .filter(({ status, body }) => status !== 202 || !(body as { task_id?: string } | undefined)?.task_id)
    .map(({ status, body }) => `the offload was answered ${status} ${JSON.stringify(body)}`);
}

/** Look until all is there, or patience is over. @returns how it stands in the end @throws when Loki cannot be read even then */
async function untilThere(
  target: Target,
  sent: readonly Sent[],
  since: Date,
  patience: number,
): Promise<Findings[]> {
  const deadline = Date.now() + patience;
  const look = async ({ tenant }: Target["callers"][number]) => {
    const own = sent.filter((one) => one.tenant === tenant);
    return judge(tenant, own, await target.lines(tenant, since));
  };
  for (;;) {
    const isLast = Date.now() > deadline;
    const findings = await Promise.all(target.callers.map(look)).catch((error: unknown) => {
      if (isLast) throw error;
      return undefined;
    });
    const isComplete = findings?.every(({ violations }) => violations.length === 0);
    if (findings !== undefined && (isComplete || isLast)) return findings;
    await sleep(LOOK);
  }
}

/** To print. */
export function table(phases: readonly Phase[]): string {
  const heads = ["tenant", "acknowledged", "unknown", "(happened)", "in Loki", "missing", "doubled", "gaps"];
  const rows = [["", "killed", ...heads, "outage", "all in Loki"]];
  for (const { name, killed, outage, arrival, findings } of phases) {
    for (const [index, one] of findings.entries()) {
      const { tenant, acknowledged, unknown, happened, inLoki, missing, doubled, gaps } = one;
      const counts = [acknowledged, unknown, happened, inLoki, missing, doubled, gaps].map(String);
      const times = [outage === undefined ? "–" : seconds(outage), seconds(arrival)];
      rows.push(index === 0 ? [name, killed, tenant, ...counts, ...times] : ["", "", tenant, ...counts]);
    }
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;
