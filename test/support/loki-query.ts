/** Reading side of the Loki double: the LogQL of log queries, as shared/loki.ts and the dashboards write it. */

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

export interface LogQuery {
  readonly matchers: readonly Comparison[];
  readonly stages: readonly (Comparison | Extraction | LineFilter)[];
}
interface Comparison {
  readonly label: string;
  readonly holds: (value: string) => boolean;
}
/** `|= "text"` */
interface LineFilter {
  readonly contains: string;
}
/** `json label="a.b"` */
interface Extraction {
  readonly label: string;
  readonly path: readonly string[];
}
/** Milliseconds. */
const HOUR = 3_600_000;
const MAX_ENTRIES = 5_000;
const MAX_RANGE = 721 * HOUR;

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

/** `/loki/api/v1/label/<label>/values` for labels of streams. @throws {BadQuery} */
export function labelValues(streams: Iterable<Stream>, label: string, search: URLSearchParams): string[] {
  const scanner = new Scanner(search.get("query") ?? "");
  const { matchers } = logQuery(scanner);
  scanner.end();
  const values = [...streams]
    .filter(({ labels }) => isMatch(labels, matchers))
    .map(({ labels }) => labels[label] ?? "");
  return [...new Set(values)].filter((value) => value !== "").sort();
}

interface Found extends StoredEntry {
  readonly labels: Readonly<Record<string, string>>;
  readonly parsed: Readonly<Record<string, string>>;
}

export function* find(streams: Iterable<Stream>, { matchers, stages }: LogQuery): Generator<Found> {
  for (const { labels, entries } of streams) {
    if (!isMatch(labels, matchers)) continue;
    for (const entry of entries) {
      const parsed: Record<string, string> = {};
      const passes = stages.every((stage) => {
        if ("contains" in stage) return entry.line.includes(stage.contains);
        if ("holds" in stage) {
          return stage.holds(parsed[stage.label] ?? entry.metadata[stage.label] ?? labels[stage.label] ?? "");
        }
        const value = extract(entry.line, stage.path);
        if (value !== "") parsed[stage.label] = value;
        return true;
      });
      if (passes) yield { ...entry, labels, parsed };
    }
  }
}

const isMatch = (labels: Stream["labels"], matchers: readonly Comparison[]): boolean =>
  matchers.every(({ label, holds }) => holds(labels[label] ?? ""));

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

/** `{a="b"} |= "text" | c="d" | json e="f.g" | e="h"` */
export function logQuery(scanner: Scanner): LogQuery {
  const matchers: Comparison[] = [];
  scanner.expect(/\{/y);
  do matchers.push(scanner.comparison());
  while (scanner.accept(/,/y));
  scanner.expect(/\}/y);
  const stages: LogQuery["stages"][number][] = [];
  for (;;) {
    if (scanner.accept(/\|=/y)) {
      stages.push({ contains: scanner.text() });
    } else if (scanner.accept(/\|\s*json\s/y)) {
      do stages.push(scanner.extraction());
      while (scanner.accept(/,/y));
    } else if (scanner.accept(/\|/y)) {
      stages.push(scanner.comparison());
    } else {
      return { matchers, stages };
    }
  }
}

const OPERATORS: Readonly<Record<string, (value: string, given: string) => boolean>> = {
  "=": (value, given) => value === given,
  "!=": (value, given) => value !== given,
  // Anchored at both ends. What RE2 and JavaScript read differently is of no use here.
  "=~": (value, given) => new RegExp(`^(?:${given})$`, "s").test(value),
  "!~": (value, given) => !new RegExp(`^(?:${given})$`, "s").test(value),
};

/** Reads a text from the left; blanks between tokens do not matter. */
export class Scanner {
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

  /** `label="text"`, and with other operators. */
  comparison(): Comparison {
    const [, label = "", operator = ""] = this.expect(/(\w+)\s*(=~|!~|!=|=)/y);
    const given = this.text();
    return { label, holds: (value) => OPERATORS[operator]?.(value, given) === true };
  }

  /** `label="path.of.names"` */
  extraction(): Extraction {
    const [, label = ""] = this.expect(/(\w+)\s*=/y);
    return { label, path: this.text().split(".") };
  }

  text(): string {
    const [literal] = this.expect(/"(?:[^"\\\n]|\\.)*"/y);
    try {
      // Escapes that Go knows and JSON does not are of no use here.
      return JSON.parse(literal) as string;
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

export const sorted = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));

const named = (name: string, labels: Readonly<Record<string, string>>): object =>
  Object.keys(labels).length === 0 ? {} : { [name]: labels };
