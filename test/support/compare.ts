/** Making answers comparable that differ in what is random. */
import type { Answer } from "./harness.ts";

export interface Comparable {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** Tenant, key, entry and user ids, key texts and the ends of key texts: random in every run. */
const RANDOM =
  /(?:task_|t-)[0-9a-f]{8}-[0-9a-f-]{27}|(?:key|evt|usr)_[0-9A-Za-z]{16}|lk_test_[0-9A-Za-z]{54}_[0-9A-Za-z]{6}|…[0-9A-Za-z]{4}/g;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
/** Milliseconds around now: a time inside is one of this run, any other is what a row says it is. */
const TODAY = 24 * 3600 * 1000;
/** How long a body is said to be is the HTTP server's business. */
const TRANSPORT = ["content-length", "transfer-encoding"];

/** Of a cursor. */
const NANOSECONDS = /\b1[78]\d{17}\b/g;

/** Makes answers of two runtimes comparable: what is random is numbered in order of appearance. */
export function comparer() {
  const names = new Map<string, string>();
  const nameOf = (found: string): string => {
    const name = names.get(found) ?? `#${names.size + 1}`;
    names.set(found, name);
    return name;
  };
  const withoutNow = (time: string) => (Math.abs(Date.parse(time) - Date.now()) < TODAY ? "<now>" : time);
  const text = (original: string): string =>
    original.replaceAll(RANDOM, nameOf).replaceAll(TIME, withoutNow).replaceAll(NANOSECONDS, "<now>");
  const comparable = ({ status, headers, text: body }: Answer): Comparable => ({
    status,
    headers: Object.fromEntries(
      [...headers].filter(([name]) => !TRANSPORT.includes(name)).map(([name, value]) => [name, text(value)]),
    ),
    text: text(body),
  });
  return Object.assign(comparable, { text });
}
