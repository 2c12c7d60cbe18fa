/**
 * Prometheus recording rules: by how much each counter has grown in every minute, exactly, although pods come and go.
 *
 * `rate()` and `increase()` begin with a series' second sample. A pod that starts for a request is first asked after it,
 * so with functions that scale to zero they miss most of what happens. What these rules record can be summed up over any
 * time: `sum_over_time(latchkey:requests_total:increase1m[1h])`.
 */

/** Counters whose growth somebody looks at: of `latchkey_x` it is called `latchkey:x:increase1m`. */
const RECORDED = /\blatchkey:(\w+):increase1m\b/g;
/** Recorded below, and of no counter. */
const PROCESS_STARTS = "process_starts";

const header = `# Made by \`npm run generate\` from what dashboards and alerts use; change shared/node/dev/monitoring/recording-rules.ts.
#
# By how much each counter has grown in the last minute. rate() and increase() begin with a series' second sample, and a
# pod that starts for a request is first asked after it: with functions that scale to zero they miss most of what happens.
# Windows of one minute, recorded every minute, do not overlap, so they can be summed up over any time. They end a scrape
# interval ago: what is scraped is stored under the time at which that began, once it has been answered, and what was not yet
# there at the end of its window would be missing for ever.
groups:
  - name: latchkey-growth
    interval: 1m
    rules:
      # Processes whose counters began at zero before our eyes: they were seen before, or have started just now. What an old
      # process has counted before Prometheus met it did not happen in this minute.
      - record: latchkey:known_process
        expr: |
          last_over_time(process_start_time_seconds{job="latchkey"}[1h] offset 75s)
            or last_over_time(process_start_time_seconds{job="latchkey"}[1m] offset 15s) > time() - 135
      # Cold starts, and containers that were started again.
      - record: latchkey:${PROCESS_STARTS}:increase1m
        expr: |
          count without (instance, revision) (
            last_over_time(process_start_time_seconds{job="latchkey"}[1m] offset 15s)
              unless last_over_time(process_start_time_seconds{job="latchkey"}[1m] offset 15s)
                == last_over_time(process_start_time_seconds{job="latchkey"}[1h] offset 75s)
              and on (instance) latchkey:known_process
          )
      # Now less what it was a minute ago; where there was nothing, or more (it was started again), all of it.
`;

/** @param texts all that mentions recorded growth */
export function recordingRules(texts: readonly string[]): string {
  const names = texts.flatMap((text) => [...text.matchAll(RECORDED)].map(([, name = ""]) => name));
  const counters = [...new Set(names)].filter((name) => name !== PROCESS_STARTS).sort();
  return header + counters.map(rule).join("");
}

const rule = (name: string): string => `      - record: latchkey:${name}:increase1m
        expr: |
          sum without (instance, revision) (
            last_over_time(latchkey_${name}[1m] offset 15s)
              - (last_over_time(latchkey_${name}[1h] offset 75s) <= last_over_time(latchkey_${name}[1m] offset 15s))
            or last_over_time(latchkey_${name}[1m] offset 15s) and on (instance) latchkey:known_process
          )
`;
