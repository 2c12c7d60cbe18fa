/** Queries and shapes that the panels of the service dashboard have in common. */

/** How much counters have grown in the time that a point of a line stands for, or in the dashboard's time. */
export const growth = (counter: string, by: string, selector = "", range = "$__interval"): string =>
  `sum${by === "" ? "" : ` by (${by})`} (sum_over_time(latchkey:${counter}:increase1m${braced(selector)}[${range}]))`;
export const total = (counter: string, selector = ""): string => growth(counter, "", selector, "$__range");
export const perSecond = (counter: string, by: string, selector = ""): string =>
  `${growth(counter, by, selector)} / ($__interval_ms / 1000)`;
/** @param share 0.99: as much as 99 of 100 take at most */
export const quantile = (share: number, histogram: string, by: string, selector = ""): string =>
  `histogram_quantile(${share}, ${growth(`${histogram}_bucket`, [by, "le"].filter((name) => name !== "").join(", "), selector)})`;
const braced = (selector: string): string => (selector === "" ? "" : `{${selector}}`);
/** What one process exports that comes and goes: the last that was heard of it. */
export const lately = (gauge: string): string => `max(last_over_time(${gauge}[5m]))`;

/** The functions that are chosen on the dashboard. */
export const chosen = 'function=~"$function"';
export const line = { show: "lines", width: 12 } as const;
export const column = { show: "columns", width: 12 } as const;
export const number = { show: "number", width: 3 } as const;
/** Where nothing was counted, nothing happened. A gauge of which nothing is known stays without a number. */
export const counted = { ...number, noValue: "0" } as const;
