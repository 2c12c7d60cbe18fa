/** What every gateway has to know of the route table: which function answers which method of which public path. */
import type { Endpoint } from "../../../routes.ts";

export interface PublicPath {
  /** As in the route table. */
  readonly path: string;
  /** `GET` answers `HEAD` too. */
  readonly methods: readonly { readonly id: string; readonly names: readonly string[] }[];
  /** Who answers every other method: any function of a path knows what it allows, for OPTIONS and for 405. */
  readonly fallback: string;
}

export const publicPaths = (table: readonly Endpoint[]): PublicPath[] =>
  [...Map.groupBy(table, ({ path }) => path)].map(([path, endpoints]) => ({
    path,
    methods: endpoints.map(({ id, method }) => ({
      id,
      names: method === "GET" ? ["GET", "HEAD"] : [method],
    })),
    fallback: (endpoints.find(({ method }) => method === "GET") ?? (endpoints[0] as Endpoint)).id,
  }));

/** A regular expression for the paths of a template: a `{name}` is one segment as it was sent, percent-encoded. */
export const expressionOf = (template: string): string =>
  template.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+");

/** Under which Knative's gateway finds a function. */
export const hostOf = (id: string): string => `${id}.latchkey.svc.cluster.local`;
