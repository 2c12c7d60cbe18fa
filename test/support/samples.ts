/** For every route a request that succeeds, so that shared suites can take it and spoil one thing at a time. */
import { expect } from "vitest";
import type { RouteId } from "../../shared/routes.ts";
import type { Answer, Harness, Send, TestTenant } from "./harness.ts";

export interface Sample {
  readonly path: string;
  readonly json?: Record<string, unknown>;
  readonly status: number;
}

const ITEM = { key: "sample/item", value: { text: "hello" }, metadata: { owner: "tests" }, ttl: 3600 };
const itemPath = `/data/${encodeURIComponent(ITEM.key)}`;

async function itemExists(api: Harness, { admin }: TestTenant): Promise<void> {
  const { status } = await api.send("POST", "/data", { as: admin.token, json: ITEM });
  if (status !== 201 && status !== 409) throw new Error(`cannot create the sample item: ${status}`);
}

/** Makes whatever must exist first, as the tenant's admin. */
export const samples: Record<RouteId, (api: Harness, tenant: TestTenant) => Promise<Sample>> = {
  "token-issue": async (_, { admin }) => ({
    path: "/token",
    json: { username: admin.username, password: admin.password },
    status: 200,
  }),
  "users-me": async () => ({ path: "/users/me", status: 200 }),
  "data-create": async () => ({ path: "/data", json: { ...ITEM, key: crypto.randomUUID() }, status: 201 }),
  "data-get": async (api, tenant) => {
    await itemExists(api, tenant);
    return { path: itemPath, status: 200 };
  },
  "data-update": async (api, tenant) => {
    await itemExists(api, tenant);
    return { path: itemPath, json: { value: [1, 2, 3] }, status: 200 };
  },
  "data-delete": async (api, tenant) => {
    await itemExists(api, tenant);
    return { path: itemPath, status: 204 };
  },
  "api-keys-create": async () => ({ path: "/api-keys", json: { name: "sample" }, status: 201 }),
  "api-keys-list": async () => ({ path: "/api-keys", status: 200 }),
  "api-keys-delete": async (api, tenant) => ({
    path: `/api-keys/${(await api.apiKey(tenant)).id}`,
    status: 204,
  }),
  "audit-verify": async () => ({ path: "/audit/integrity", status: 200 }),
  "audit-relay": async () => ({ path: "/trigger-log-offload", status: 202 }),
  "audit-list": async () => ({ path: "/audit", status: 200 }),
};

/** What of an answer is the same from one run to the next: its code and body without ids of requests and paths. */
export const comparable = ({ status, body }: Answer): unknown => ({
  status,
  body: body === undefined ? undefined : { ...body, request_id: "", instance: "" },
});

/** How a send differs for a route without a body. */
export const bodyOf = ({ json }: Sample): Pick<Send, "json"> => (json === undefined ? {} : { json });

/** The answer is this problem, in the form that every problem has. */
export function expectProblem(answer: Answer, status: number, code: string): void {
  expect({ status: answer.status, code: answer.body?.code }).toEqual({ status, code });
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  expect(answer.headers.get("x-request-id")).toBe(answer.body.request_id);
}
