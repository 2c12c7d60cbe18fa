/** Reading side of the Loki double: the LogQL of counts, as the tests and the dashboards write it. */
import { BadQuery, find, type LogQuery, logQuery, Scanner, type Stream, sorted } from "./loki-query.ts";

type Vector =
  | { readonly op: "count_over_time"; readonly log: LogQuery; readonly range: bigint }
  | { readonly op: "sum" | "count"; readonly by: readonly string[]; readonly of: Vector }
  | { readonly op: "topk"; readonly k: number; readonly of: Vector };

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SECOND = 1_000_000_000n;
const SECONDS = { s: 1n, m: 60n, h: 3600n, d: 86_400n } as const;

/** Whether it is a query of counts, not of lines. */
export const isMetricQuery = (query: string): boolean => !query.trimStart().startsWith("{");

/** `/loki/api/v1/query`. Every stored entry counts, duplicates too. @throws {BadQuery} */
export function queryInstant(streams: Iterable<Stream>, search: URLSearchParams): object {
  const query = search.get("query") ?? "";
  if (!isMetricQuery(query)) {
    throw new BadQuery(
      "log queries are not supported as an instant query type, please change your query to a range query type",
    );
  }
  const at = BigInt(search.get("time") ?? Date.now() * 1e6);
  const result = evaluate([...streams], parse(query), at).map(({ labels, value }) => ({
    metric: labels,
    value: [seconds(at), String(value)],
  }));
  return { resultType: "vector", result };
}

/** `/loki/api/v1/query_range`. @throws {BadQuery} */
export function querySteps(streams: Iterable<Stream>, search: URLSearchParams): object {
  const vector = parse(search.get("query") ?? "");
  const [start, end] = ["start", "end"].map((name) => BigInt(search.get(name) ?? 0)) as [bigint, bigint];
  const step = BigInt(search.get("step") ?? 0) * SECOND;
  if (step <= 0n) throw new BadQuery("zero or negative query resolution step widths are not accepted");
  const all = [...streams];
  const series = new Map<string, [number, string][]>();
  for (let at = start; at <= end; at += step) {
    for (const { labels, value } of evaluate(all, vector, at)) {
      const key = JSON.stringify(labels);
      series.set(key, [...(series.get(key) ?? []), [seconds(at), String(value)]]);
    }
  }
  const result = [...series].map(([labels, values]) => ({ metric: JSON.parse(labels), values }));
  return { resultType: "matrix", result };
}

const seconds = (ns: bigint): number => Number(ns / 1_000_000n) / 1000;

function evaluate(streams: readonly Stream[], vector: Vector, at: bigint): Sample[] {
  switch (vector.op) {
    case "count_over_time": {
      const found = [...find(streams, vector.log)].filter(({ ns }) => ns > at - vector.range && ns <= at);
      const each = found.map(({ labels, metadata, parsed }) => ({
        labels: { ...labels, ...metadata, ...parsed },
        value: 1,
      }));
      return group(each, (labels) => labels, add);
    }
    case "sum":
    case "count": {
      const by = (labels: Sample["labels"]) =>
        Object.fromEntries(
          vector.by.flatMap((name) => (labels[name] === undefined ? [] : [[name, labels[name]]])),
        );
      return group(evaluate(streams, vector.of, at), by, vector.op === "sum" ? add : (sum) => sum + 1);
    }
    case "topk":
      return evaluate(streams, vector.of, at)
        .sort((a, b) => b.value - a.value)
        .slice(0, vector.k);
  }
}

const add = (sum: number, { value }: Sample): number => sum + value;

function group(
  samples: readonly Sample[],
  labelsOf: (labels: Sample["labels"]) => Sample["labels"],
  reduce: (sum: number, sample: Sample) => number,
): Sample[] {
  const groups = Map.groupBy(samples, ({ labels }) => JSON.stringify(sorted(labelsOf(labels))));
  return [...groups].map(([labels, members]) => ({
    labels: JSON.parse(labels),
    value: members.reduce(reduce, 0),
  }));
}

function parse(query: string): Vector {
  const scanner = new Scanner(query);
  const vector = vectorOf(scanner);
  scanner.end();
  return vector;
}

/** `topk(5, count by (a) (sum by (a, b) (count_over_time({…}[1h]))))`, or from any point inwards. */
function vectorOf(scanner: Scanner): Vector {
  const [, k] = scanner.accept(/topk\s*\(\s*(\d+)\s*,/y) ?? [];
  if (k !== undefined) {
    const of = vectorOf(scanner);
    scanner.expect(/\)/y);
    return { op: "topk", k: Number(k), of };
  }
  const [, op] = scanner.accept(/(sum|count)\b(?!_)/y) ?? [];
  if (op !== undefined) {
    const by = scanner.accept(/by\s*\(\s*([\w, ]*?)\s*\)/y)?.[1] ?? "";
    scanner.expect(/\(/y);
    const of = vectorOf(scanner);
    scanner.expect(/\)/y);
    return { op: op as "sum" | "count", by: by.split(/[ ,]+/).filter((name) => name !== ""), of };
  }
  scanner.expect(/count_over_time\s*\(/y);
  const log = logQuery(scanner);
  const [, count = "", unit] = scanner.expect(/\[(\d+)([smhd])\]\s*\)/y);
  return {
    op: "count_over_time",
    log,
    range: BigInt(count) * SECONDS[unit as keyof typeof SECONDS] * SECOND,
  };
}
