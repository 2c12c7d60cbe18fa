/**
 * The route table: the only place that knows an endpoint's method, path, permission, audit action and scaling.
 * Data only; the server, the README, the manifests and the contract tests derive from it.
 */
import type { AuditAction } from "./audit.ts";
import type { Permission } from "./permissions.ts";
import { background, hashing, proving, quick, reading, type Scaling, shipping } from "./scaling.ts";

/** What a function answers on. */
export interface Endpoint {
  /** One name everywhere: `functions/<id>.ts`, metric label, log field, Knative Service. */
  readonly id: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** A `{name}` segment is one percent-encoded path segment. */
  readonly path: string;
  readonly summary: string;
  /** Of the function: the same in both tables. */
  readonly scaling: Scaling;
}

export interface Route extends Endpoint {
  /** Who may call: nobody known yet (`none`), people with a JWT (`user`), or API keys as well (`any`). */
  readonly credential: "none" | "user" | "any";
  /** What the caller must be allowed to do; absent: being authenticated is enough. */
  readonly permission?: Permission;
  /** What an audit entry names as its target. */
  readonly target: "user" | "item" | "api_key" | "audit";
  readonly audit: AuditAction;
  /** The action of an entry about an attempt that was not let in, where it has a name of its own. */
  readonly auditDenied?: AuditAction;
}

export const routes = [
  {
    id: "token-issue",
    method: "POST",
    path: "/token",
    credential: "none",
    target: "user",
    audit: "login_success",
    auditDenied: "login_failed",
    summary: "Exchange a username and password for a JWT",
    scaling: hashing,
  },
  {
    id: "users-me",
    method: "GET",
    path: "/users/me",
    credential: "user",
    target: "user",
    audit: "get_user",
    summary: "Show the signed-in user",
    scaling: quick,
  },
  {
    id: "data-create",
    method: "POST",
    path: "/data",
    credential: "any",
    permission: "data:write",
    target: "item",
    audit: "create_key",
    summary: "Create an item",
    scaling: quick,
  },
  {
    id: "data-get",
    method: "GET",
    path: "/data/{key}",
    credential: "any",
    permission: "data:read",
    target: "item",
    audit: "get_key",
    summary: "Read an item",
    scaling: quick,
  },
  {
    id: "data-update",
    method: "PUT",
    path: "/data/{key}",
    credential: "any",
    permission: "data:write",
    target: "item",
    audit: "update_key",
    summary: "Replace an item",
    scaling: quick,
  },
  {
    id: "data-delete",
    method: "DELETE",
    path: "/data/{key}",
    credential: "any",
    permission: "data:write",
    target: "item",
    audit: "delete_key",
    summary: "Delete an item",
    scaling: quick,
  },
  {
    id: "api-keys-create",
    method: "POST",
    path: "/api-keys",
    credential: "user",
    permission: "keys:write",
    target: "api_key",
    audit: "create_api_key",
    summary: "Create an API key; its text is shown once",
    scaling: quick,
  },
  {
    id: "api-keys-list",
    method: "GET",
    path: "/api-keys",
    credential: "user",
    permission: "keys:read",
    target: "api_key",
    audit: "list_api_keys",
    summary: "List the tenant's API keys, newest first",
    scaling: quick,
  },
  {
    id: "api-keys-delete",
    method: "DELETE",
    path: "/api-keys/{key_id}",
    credential: "user",
    permission: "keys:write",
    target: "api_key",
    audit: "delete_api_key",
    summary: "Delete an API key; it stops working at once",
    scaling: quick,
  },
  {
    id: "audit-list",
    method: "GET",
    path: "/audit",
    credential: "any",
    permission: "audit:read",
    target: "audit",
    audit: "list_audit",
    summary: "List the tenant's audit trail, newest first",
    scaling: reading,
  },
  {
    id: "audit-verify",
    method: "GET",
    path: "/audit/integrity",
    credential: "any",
    permission: "audit:read",
    target: "audit",
    audit: "verify_audit",
    summary: "Prove that no audit entry is missing",
    scaling: proving,
  },
  {
    id: "audit-relay",
    method: "POST",
    path: "/trigger-log-offload",
    credential: "user",
    permission: "audit:relay",
    target: "audit",
    audit: "relay_audit",
    summary: "Send what waits in the tenant's outbox to Loki now",
    scaling: background,
  },
] as const satisfies readonly Route[];

/**
 * Where functions take CloudEvents: called by Knative Eventing inside the cluster, and on no public route. A function of
 * this table may have a row in the other one as well.
 */
export const eventRoutes = [
  {
    id: "audit-ship",
    method: "POST",
    path: "/events/audit-ship",
    summary: "Batch audit entries into Loki and take them out of the outbox",
    scaling: shipping,
  },
  {
    id: "audit-relay",
    method: "POST",
    path: "/events/audit-relay",
    summary: "Publish again what has been in an outbox for too long",
    scaling: background,
  },
  {
    id: "data-expire",
    method: "POST",
    path: "/events/data-expire",
    summary: "Turn the expiry of items into audit entries",
    scaling: background,
  },
  {
    id: "audit-dead-letter",
    method: "POST",
    path: "/events/audit-dead-letter",
    summary: "Keep events that nobody could deliver, with the reason",
    scaling: background,
  },
] as const satisfies readonly Endpoint[];

export type EventRouteId = (typeof eventRoutes)[number]["id"];
export const eventRouteOf = (id: EventRouteId): Endpoint =>
  eventRoutes.find((route) => route.id === id) as Endpoint;

export type RouteId = (typeof routes)[number]["id"];

/** The row of an endpoint. Ids are checked by the compiler, so a row always exists. */
export const routeOf = (id: RouteId): Route => routes.find((route) => route.id === id) as Route;

/** Methods of the API on a path template, as `Allow` lists them (RFC 9110, 10.2.1). GET answers HEAD too. */
export function allowedMethods(path: string): string[] {
  const all: readonly Endpoint[] = [...routes, ...eventRoutes];
  const methods = all.filter((route) => route.path === path).map((route) => route.method as string);
  if (methods.includes("GET")) methods.push("HEAD");
  return [...methods, "OPTIONS"];
}
