/** What a scenario found out, and which promises that breaks. */
import type { Round } from "./meter.ts";
import type { Verdict } from "./scene.ts";

/** `brief` is a kill and a short stop one after the other, for every test run. */
export const scenarios = [
  "kill",
  "restart",
  "emptied",
  "stop",
  "partition",
  "rolling",
  "sentinels",
  "blackout",
  "stale",
  "tls",
] as const;
export type ScenarioName = (typeof scenarios)[number] | "brief";

export interface Outcome {
  readonly rounds: readonly Round[];
  readonly verdict: Verdict;
  /** Changes that were acknowledged where no majority was, long enough after the partition. */
  readonly acknowledgedOnIsland: number;
  /** Function processes that ended by themselves. */
  readonly ended: number;
}

/** The same fault with ioredis's own Sentinel client. */
export interface PlainOutcome {
  readonly acknowledged: number;
  readonly lost: number;
  readonly doubled: number;
  readonly outage: number;
  readonly slowest: number;
}

/** Milliseconds. `down-after-milliseconds` of start-sentinel.sh, and what the failover and the clients may take after it. */
const DOWN_AFTER = 3_000;
const FAILOVER = 1_500;
/** Whatever happens, a request is answered within this time. */
const SLOWEST = 3_000;

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
export const largest = (numbers: readonly number[]): number => Math.max(0, ...numbers);

/** What was lost, doubled or answered wrongly. */
export function losses({ rounds, verdict, acknowledgedOnIsland, ended }: Outcome): string[] {
  const broken = verdict.violations.slice(0, 5);
  const promise = (holds: boolean, sentence: string) => holds || broken.push(sentence);
  const { acknowledged, lost, entries, gaps, violations } = verdict;
  promise(acknowledged > 100 * rounds.length, `only ${acknowledged} changes were acknowledged`);
  promise(lost === 0, `${lost} acknowledged changes are lost`);
  promise(entries === 0, `${entries} audit entries are lost or doubled`);
  promise(gaps === 0, `${gaps} numbers are missing`);
  promise(violations.length === 0, `${violations.length} sentences about the trail do not hold`);
  promise(acknowledgedOnIsland === 0, `${acknowledgedOnIsland} changes were acknowledged by the minority`);
  promise(ended === 0, `${ended} function processes ended`);
  for (const { refusals, withoutRetryAfter, unanswered } of rounds) {
    for (const kind of Object.keys(refusals)) promise(kind.startsWith("503 "), `answered ${kind}`);
    promise(withoutRetryAfter === 0, `${withoutRetryAfter} times 503 without Retry-After`);
    promise(unanswered === 0, `${unanswered} requests got no answer`);
  }
  return broken;
}

/** Nothing can be acknowledged for as long as these last. */
const LONG: readonly ScenarioName[] = ["sentinels", "blackout"];

/** What took too long, beyond what the machine itself needed for an answer at that time. */
export function delays(name: ScenarioName, { rounds }: Outcome): string[] {
  const broken: string[] = [];
  const outage = median(rounds.map((round) => round.outage - round.control));
  if (!LONG.includes(name) && outage > DOWN_AFTER + FAILOVER)
    broken.push(`no change was acknowledged for ${Math.round(outage)} ms`);
  const slowest = largest(rounds.map((round) => round.slowest - round.control));
  if (slowest >= SLOWEST) broken.push(`a request took ${Math.round(slowest)} ms`);
  return broken;
}
