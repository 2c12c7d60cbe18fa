/**
 * k8s/gateway/httproutes.yaml: one public host, and a function for each method of each path behind it.
 *
 * Knative routes by host alone, so a rule rewrites the host to a function's own and sends the request to Kourier's internal
 * gateway. Paths stay as they are. What no rule matches the gateway answers 404 itself: nothing else is public.
 *
 * A path with a parameter is matched by the prefix in front of it, which every conformant gateway supports (Core) without
 * a look at percent-encoding; a regular expression is implementation-specific (HTTPPathMatch). The prefix takes in more
 * than one segment, and the function answers that with its own 404. Where paths go on behind a parameter a prefix cannot
 * tell them apart: those are matched by regular expressions that exclude each other, because precedence between
 * expressions and prefixes is not specified.
 */
import { type Endpoint, routes } from "../../../routes.ts";
import { expressionOf, hostOf, publicPaths } from "./public-paths.ts";

type PathMatch = { readonly type: "Exact" | "PathPrefix" | "RegularExpression"; readonly value: string };
interface Rule {
  readonly path: PathMatch;
  /** None: all that no other rule of this path takes. */
  readonly methods: readonly string[];
  readonly id: string;
}

/** Of an HTTPRoute, says its schema. */
const MAX_RULES = 16;

/** An HTTPRoute for each first segment of a path. */
export function httpRoutes(table: readonly Endpoint[] = routes): object[] {
  const resources = Map.groupBy(table, ({ path }) => path.split("/")[1] ?? "");
  return [...resources].map(([segment, endpoints]) => {
    const rules = rulesOf(endpoints);
    if (rules.length > MAX_RULES) throw new Error(`/${segment}: ${rules.length} rules are too many`);
    return httpRoute(segment.replaceAll(/[^a-z0-9-]/g, ""), rules);
  });
}

function rulesOf(endpoints: readonly Endpoint[]): Rule[] {
  const paths = publicPaths(endpoints);
  return paths.flatMap((one) => {
    const path = pathMatch(
      one.path,
      paths.map((other) => other.path),
    );
    const named = one.methods.map(({ id, names }) => ({ path, methods: names, id }));
    return [...named, { path, methods: [], id: one.fallback }];
  });
}

function pathMatch(template: string, all: readonly string[]): PathMatch {
  const prefixOf = (one: string) => one.split("/{")[0] as string;
  const prefix = prefixOf(template);
  if (prefix === template) return { type: "Exact", value: template };
  const alike = all.filter((one) => one.includes("{") && prefixOf(one) === prefix);
  if (alike.length === 1) return { type: "PathPrefix", value: prefix };
  return { type: "RegularExpression", value: expressionOf(template) };
}

const httpRoute = (name: string, rules: readonly Rule[]): object => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name, namespace: "latchkey" },
  spec: {
    parentRefs: [{ name: "latchkey" }],
    rules: rules.map(({ path, methods, id }) => ({
      matches: methods.length === 0 ? [{ path }] : methods.map((method) => ({ path, method })),
      filters: [{ type: "URLRewrite", urlRewrite: { hostname: hostOf(id) } }],
      backendRefs: [{ name: "kourier-internal", namespace: "kourier-system", port: 80 }],
    })),
  },
});
