/** One request to each endpoint, over the network, that succeeds once the ground is prepared. */
import { type Route, type RouteId, routes } from "../../shared/routes.ts";
import type { Send } from "./harness.ts";
import { PASSWORD, type ProcessTenant, send } from "./process.ts";

const examples: Record<
  RouteId,
  (tenant: ProcessTenant, keyId: string) => readonly [status: number, path: string, request?: Send]
> = {
  "token-issue": ({ username }) => [200, "/token", { json: { username, password: PASSWORD } }],
  "users-me": () => [200, "/users/me"],
  "data-create": () => [201, "/data", { json: { key: "a", value: 1 } }],
  "data-get": () => [200, "/data/a"],
  "data-update": () => [200, "/data/a", { json: { value: 2 } }],
  "data-delete": () => [204, "/data/a"],
  "api-keys-create": () => [201, "/api-keys", { json: { name: "a" } }],
  "api-keys-list": () => [200, "/api-keys"],
  "api-keys-delete": (_, keyId) => [204, `/api-keys/${keyId}`],
  "audit-list": () => [200, "/audit"],
  "audit-verify": () => [200, "/audit/integrity"],
  "audit-relay": () => [202, "/trigger-log-offload"],
};

/**
 * Put in place what an endpoint's request needs: an API key, and the item `a` unless it is to be created.
 * @param all origin of a process that serves everything. @returns the id of the API key
 */
export async function prepare(all: string, { token: as }: ProcessTenant, id: string): Promise<string> {
  const { body } = await send(all, "POST", "/api-keys", { as, json: { name: "a" } });
  if (id === "data-create") await send(all, "DELETE", "/data/a", { as });
  else await send(all, "POST", "/data", { as, json: { key: "a", value: 1 } });
  return body.key_id;
}

/** Send an endpoint's request. @returns the answer, and the status that it has when all is well */
export async function ask(origin: string, route: Route, tenant: ProcessTenant, keyId: string) {
  const [expected, path, { json } = {}] = examples[route.id as RouteId](tenant, keyId);
  const credential = route.credential === "none" ? {} : { as: tenant.token };
  const body = json === undefined ? {} : { json };
  return { ...(await send(origin, route.method, path, { ...credential, ...body })), expected };
}

export const routesById: ReadonlyMap<string, Route> = new Map(routes.map((route) => [route.id, route]));
