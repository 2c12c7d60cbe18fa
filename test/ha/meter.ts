/** What callers got: how long nothing was acknowledged, how long they waited, and what they were told. */
import type { Answer } from "../support/harness.ts";

/** One fault, as callers saw it. Times in milliseconds. */
export interface Round {
  /** The longest time in which no change was acknowledged, by the function process that it hit hardest. */
  readonly outage: number;
  readonly slowest: number;
  /** The slowest answer of the same processes to a request that needs no Redis: how busy this machine was. */
  readonly control: number;
  /** Answers by `<status> <code>`, without those that went well. */
  readonly refusals: Readonly<Record<string, number>>;
  /** 503 that does not say when to come again. */
  readonly withoutRetryAfter: number;
  /** Requests that got no answer at all. */
  readonly unanswered: number;
}

export function createMeter() {
  let acknowledged = new Map<string, number[]>();
  let refusals: Record<string, number> = {};
  let counts = { slowest: 0, control: 0, withoutRetryAfter: 0, unanswered: 0 };
  let began = 0;

  return {
    /** A fault is about to happen. */
    begin() {
      acknowledged = new Map();
      refusals = {};
      counts = { slowest: 0, control: 0, withoutRetryAfter: 0, unanswered: 0 };
      began = performance.now();
    },
    note(to: string, took: number, answer: Answer | undefined) {
      counts.slowest = Math.max(counts.slowest, took);
      if (answer === undefined) counts.unanswered += 1;
      else if (answer.status < 300) {
        const times = acknowledged.get(to) ?? [];
        acknowledged.set(to, times);
        times.push(performance.now());
      } else if (answer.status >= 500) {
        const kind = `${answer.status} ${answer.body?.code}`;
        refusals[kind] = (refusals[kind] ?? 0) + 1;
        if (answer.headers.get("retry-after") === null) counts.withoutRetryAfter += 1;
      }
    },
    noteControl(took: number) {
      counts.control = Math.max(counts.control, took);
    },
    /** Changes that this process has acknowledged in the last `milliseconds`. */
    lately: (origin: string, milliseconds: number): number =>
      (acknowledged.get(origin) ?? []).filter((time) => time > performance.now() - milliseconds).length,
    /** Changes acknowledged by this process later than so long after the beginning. */
    after: (origin: string, milliseconds: number): number =>
      (acknowledged.get(origin) ?? []).filter((time) => time > began + milliseconds).length,
    /** @param origins the processes that are expected to go on */
    end(origins: readonly string[]): Round {
      const outages = origins.map((origin) =>
        longestGap([began, ...(acknowledged.get(origin) ?? []), performance.now()]),
      );
      return { outage: Math.max(...outages), refusals, ...counts };
    },
  };
}

function longestGap(times: readonly number[]): number {
  return times.reduce((longest, time, index) => Math.max(longest, time - (times[index - 1] ?? time)), 0);
}
