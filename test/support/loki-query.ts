/** Reading side of the Loki double: the LogQL that shared/loki.ts writes and that the original's dashboards use. */

export interface StoredEntry {
  readonly ns: bigint;
  readonly line: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface Stream {
  readonly labels: Readonly<Record<string, string>>;
  readonly entries: StoredEntry[];
}

/** Answered 400 with the message as text. */
export class BadQuery extends Error {}

interface LogQuery {
  readonly matchers: readonly Comparison[];
  readonly stages: readonly (Comparison | Extraction)[];
}
interface Comparison {
  readonly label: string;
  readonly value: string;
}
/** `json label="a.b"` */
interface Extraction {
  readonly label: string;
  readonly path: readonly string[];
}
interface MetricQuery {
  readonly log: LogQuery;
  readonly range: bigint;
  /** `sum by (…)`; undefined: every combination of labels is a series. */
  readonly by: readonly string[] | undefined;
  /** `count(…)` around it. */
  readonly counted: boolean;
}

/** Milliseconds. */
const HOUR = 3_600_000;
const MAX_ENTRIES = 5_000;
const MAX_RANGE = 721 * HOUR;
const SECONDS = { s: 1n, m: 60n, h: 3600n, d: 86_400n } as const;

/** `/loki/api/v1/query_range` for log queries. @returns the `data` of the answer  @throws {BadQuery} */
export function queryRange(streams: Iterable<Stream>, search: URLSearchParams, categorize: boolean): object {
  const scanner = new Scanner(search.get("query") ?? "");
  const query = logQuery(scanner);
  scanner.end();
  const limit = Number(search.get("limit") ?? 100);
  if (limit <= 0) throw new BadQuery("limit must be a positive value");
  if (limit > MAX_ENTRIES) {
    throw new BadQuery(
      `max entries limit per query exceeded, limit > max_entries_limit_per_query (${limit} > ${MAX_ENTRIES})`,
    );
  }
  const end = BigInt(search.get("end") ?? Date.now() * 1e6);
  const start = BigInt(search.get("start") ?? end - BigInt(HOUR) * 1_000_000n);
  if (end < start) throw new BadQuery("end timestamp must not be before or equal to start time");
  // Whole milliseconds are compared.
  const length = Number(end / 1_000_000n - start / 1_000_000n);
  if (length > MAX_RANGE) {
    const printed = `${Math.floor(length / HOUR)}h0m${(length % HOUR) / 1000}s`;
    throw new BadQuery(`the query time range exceeds the limit (query length: ${printed}, limit: 30d1h)`);
  }
  const sign = (search.get("direction") ?? "backward") === "backward" ? -1 : 1;
  const found = new Map<string, Found>();
  for (const one of find(streams, query)) {
    if (one.ns < start || one.ns >= end) continue;
    // Exact duplicates are one.
    found.set(JSON.stringify([one.labels, String(one.ns), one.line, one.metadata]), one);
  }
  const rows = [...found.values()].sort((a, b) => sign * Number(a.ns - b.ns)).slice(0, limit);
  const groups = Map.groupBy(rows, ({ labels, metadata, parsed }) =>
    JSON.stringify(sorted(categorize ? labels : { ...labels, ...metadata, ...parsed })),
  );
  const result = [...groups].map(([stream, members]) => ({
    stream: JSON.parse(stream),
    values: members.map(({ ns, line, metadata, parsed }) =>
      categorize
        ? [String(ns), line, { ...named("structuredMetadata", metadata), ...named("parsed", parsed) }]
        : [String(ns), line],
    ),
  }));
  return { resultType: "streams", result };
}

/** `/loki/api/v1/query` for counts. Every stored entry counts, duplicates too. @throws {BadQuery} */
export function queryInstant(streams: Iterable<Stream>, search: URLSearchParams): object {
  const scanner = new Scanner(search.get("query") ?? "");
  if (scanner.peek("{")) {
    throw new BadQuery(
      "log queries are not supported as an instant query type, please change your query to a range query type",
    );
  }
  const { log, range, by, counted } = metricQuery(scanner);
  scanner.end();
  const at = BigInt(search.get("time") ?? Date.now() * 1e6);
  const counts = new Map<string, number>();
  for (const { ns, labels, metadata, parsed } of find(streams, log)) {
    if (ns <= at - range || ns > at) continue;
    const all: Record<string, string> = { ...labels, ...metadata, ...parsed };
    const kept = by === undefined ? all : pick(all, by);
    const series = JSON.stringify(sorted(kept));
    counts.set(series, (counts.get(series) ?? 0) + 1);
  }
  const series = counted && counts.size > 0 ? new Map([["{}", counts.size]]) : counts;
  const result = [...series].map(([metric, count]) => ({
    metric: JSON.parse(metric),
    value: [Number(at / 1_000_000n) / 1000, String(count)],
  }));
  return { resultType: "vector", result };
}

interface Found extends StoredEntry {
  readonly labels: Readonly<Record<string, string>>;
  readonly parsed: Readonly<Record<string, string>>;
}

function* find(streams: Iterable<Stream>, { matchers, stages }: LogQuery): Generator<Found> {
  for (const { labels, entries } of streams) {
    if (!matchers.every(({ label, value }) => (labels[label] ?? "") === value)) continue;
    for (const entry of entries) {
      const parsed: Record<string, string> = {};
      const passes = stages.every((stage) => {
        if ("value" in stage) {
          return (
            (parsed[stage.label] ?? entry.metadata[stage.label] ?? labels[stage.label] ?? "") === stage.value
          );
        }
        const value = extract(entry.line, stage.path);
        if (value !== "") parsed[stage.label] = value;
        return true;
      });
      if (passes) yield { ...entry, labels, parsed };
    }
  }
}

/** The text at a path of a JSON line; empty when there is none. U+FFFD is read as a space. */
function extract(line: string, path: readonly string[]): string {
  try {
    let value: unknown = JSON.parse(line);
    for (const name of path) value = (value as Record<string, unknown> | undefined)?.[name];
    return String(value ?? "").replaceAll("\ufffd", " ");
  } catch {
    return "";
  }
}

/** `count(sum by (a)(count_over_time({…}[1h])))`, or from any point inwards. */
function metricQuery(scanner: Scanner): MetricQuery {
  if (scanner.accept(/count\(/y)) {
    const inner = metricQuery(scanner);
    scanner.expect(/\)/y);
    return { ...inner, counted: true };
  }
  if (scanner.accept(/sum\b/y)) {
    const by = scanner.accept(/by\s*\(\s*([\w, ]*?)\s*\)/y)?.[1] ?? "";
    scanner.expect(/\(/y);
    const inner = metricQuery(scanner);
    scanner.expect(/\)/y);
    return { ...inner, by: by.split(/[ ,]+/).filter((name) => name !== "") };
  }
  scanner.expect(/count_over_time\s*\(/y);
  const log = logQuery(scanner);
  const [, count = "", unit] = scanner.expect(/\[(\d+)([smhd])\]\s*\)/y);
  const range = BigInt(count) * SECONDS[unit as keyof typeof SECONDS] * 1_000_000_000n;
  return { log, range, by: undefined, counted: false };
}

/** `{a="b"} | c="d" | json e="f.g" | e="h"` */
function logQuery(scanner: Scanner): LogQuery {
  const matchers: Comparison[] = [];
  scanner.expect(/\{/y);
  do matchers.push(scanner.comparison());
  while (scanner.accept(/,/y));
  scanner.expect(/\}/y);
  const stages: (Comparison | Extraction)[] = [];
  while (scanner.accept(/\|/y)) {
    if (!scanner.accept(/json\s/y)) {
      stages.push(scanner.comparison());
      continue;
    }
    do {
      const { label, value } = scanner.comparison();
      stages.push({ label, path: value.split(".") });
    } while (scanner.accept(/,/y));
  }
  return { matchers, stages };
}

/** Reads a text from the left; blanks between tokens do not matter. */
class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  accept(sticky: RegExp): RegExpExecArray | undefined {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at += 1;
    sticky.lastIndex = this.#at;
    const match = sticky.exec(this.#text) ?? undefined;
    if (match !== undefined) this.#at = sticky.lastIndex;
    return match;
  }

  expect(sticky: RegExp): RegExpExecArray {
    const match = this.accept(sticky);
    if (match === undefined) throw new BadQuery(`parse error at line 1, col ${this.#at + 1}: syntax error`);
    return match;
  }

  /** `label="text"` */
  comparison(): Comparison {
    const [, label = "", text = ""] = this.expect(/(\w+)\s*=\s*("(?:[^"\\\n]|\\.)*")/y);
    try {
      // Escapes that Go knows and JSON does not are of no use here.
      return { label, value: JSON.parse(text) as string };
    } catch {
      throw new BadQuery(`parse error at line 1, col ${this.#at}: invalid char escape`);
    }
  }

  peek(start: string): boolean {
    return this.#text.trimStart().startsWith(start);
  }

  end(): void {
    this.expect(/$/y);
  }
}

const sorted = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));

const pick = (labels: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.flatMap((name) => (labels[name] === undefined ? [] : [[name, labels[name]]])));

const named = (name: string, labels: Readonly<Record<string, string>>): object =>
  Object.keys(labels).length === 0 ? {} : { [name]: labels };
