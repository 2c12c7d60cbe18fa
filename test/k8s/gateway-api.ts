/** Which backend a Gateway would choose: Gateway API's own rules of matching and precedence (HTTPRouteRule, HTTPPathMatch). */
import type { Manifest } from "./render.ts";

interface PathMatch {
  readonly type: "Exact" | "PathPrefix" | "RegularExpression";
  readonly value: string;
}
export interface HttpRoute {
  readonly spec: {
    readonly parentRefs: readonly { readonly name: string }[];
    readonly rules: readonly {
      readonly matches: readonly { readonly path: PathMatch; readonly method?: string }[];
      readonly filters: readonly {
        readonly type: string;
        readonly urlRewrite: { readonly hostname: string };
      }[];
      readonly backendRefs: readonly {
        readonly name: string;
        readonly namespace: string;
        readonly port: number;
      }[];
    }[];
  };
}

function pathMatches({ type, value }: PathMatch, path: string): boolean {
  if (type === "Exact") return path === value;
  if (type === "RegularExpression") return new RegExp(`^(?:${value})$`).test(path);
  // Segment by segment: /data takes in /data, /data/ and /data/x, and not /database.
  return path === value || path.startsWith(`${value}/`);
}

/**
 * @param path as it stands in the request line, without its query
 * @returns the host that the request is sent on with; undefined: the Gateway answers 404
 * @throws where the specification leaves open which of two rules is chosen
 */
export function routedTo(
  routes: readonly Manifest<HttpRoute>[],
  method: string,
  path: string,
): string | undefined {
  const found = routes
    .flatMap(({ spec }) => spec.rules)
    .flatMap(({ matches, filters }) =>
      matches.map((match) => ({ ...match, host: filters[0]?.urlRewrite.hostname })),
    )
    .filter((match) => pathMatches(match.path, path) && (match.method ?? method) === method);
  const rank = ({ path: { type, value }, method: own }: (typeof found)[number]): [number, number, number] => [
    type === "Exact" ? 2 : type === "RegularExpression" ? 1 : 0,
    type === "PathPrefix" ? value.length : 0,
    own === undefined ? 0 : 1,
  ];
  found.sort((a, b) => {
    const [ranks, others] = [rank(a), rank(b)];
    return others.map((one, at) => one - (ranks[at] as number)).find((difference) => difference !== 0) ?? 0;
  });
  const [first, ...rest] = found;
  const isOpen = (other: (typeof found)[number]) =>
    first?.path.type === "RegularExpression"
      ? other.path.value !== first.path.value
      : rank(other).join() === rank(first as (typeof found)[number]).join();
  if (rest.some(isOpen)) throw new Error(`${method} ${path}: it is not specified which rule is chosen`);
  return first?.host;
}
