/**
 * The functions as a worker: what test/portability.test.ts bundles and runs under workerd. ioredis and the Lua files
 * stay in Node: every script call crosses by a service binding, with its reply or its error. All the rest runs in here.
 */
import apiKeysCreate from "../../functions/api-keys-create.ts";
import apiKeysDelete from "../../functions/api-keys-delete.ts";
import apiKeysList from "../../functions/api-keys-list.ts";
import auditList from "../../functions/audit-list.ts";
import auditRelay from "../../functions/audit-relay.ts";
import auditVerify from "../../functions/audit-verify.ts";
import dataCreate from "../../functions/data-create.ts";
import dataDelete from "../../functions/data-delete.ts";
import dataGet from "../../functions/data-get.ts";
import dataUpdate from "../../functions/data-update.ts";
import usersMe from "../../functions/users-me.ts";
import { createApp } from "../../shared/app.ts";
import { parseConfig } from "../../shared/config.ts";
import type { Gate, Services } from "../../shared/function.ts";
import { createKeyHasher } from "../../shared/node/key-hash.ts";
import type { Outbox } from "../../shared/outbox.ts";
import { Problem, type ProblemCode } from "../../shared/problems.ts";
import { createApiKeyStore } from "../../shared/redis/api-keys.ts";
import { createAuditStore } from "../../shared/redis/audit.ts";
import { createExecute, createRefuse } from "../../shared/redis/execute.ts";
import { createItemStore } from "../../shared/redis/items.ts";
import type { ScriptName } from "../../shared/redis/scripts.ts";
import type { Store } from "../../shared/redis/store.ts";
import { createUserStore } from "../../shared/redis/users.ts";
import { createRelay } from "../../shared/relay.ts";
import { createTokenVerifier } from "../../shared/tokens.ts";

/** What the worker asks of the Node side. */
export interface ScriptCall {
  readonly script: ScriptName;
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

/** What the Node side answers: the script's reply, a Problem in its parts, or the text of any other error. */
export type ScriptAnswer =
  | { readonly reply: unknown }
  | { readonly problem: { readonly code: ProblemCode; readonly detail?: string } }
  | { readonly error: string };

export interface WorkerEnv {
  /** Environment variables, as a pod would have them. */
  readonly VARIABLES: Readonly<Record<string, string>>;
  readonly STORE: { fetch(url: string, init: RequestInit): Promise<Response> };
}

/** All but token-issue: @node-rs/argon2 has no build for workerd. */
const functions = [
  ...[usersMe, dataCreate, dataGet, dataUpdate, dataDelete],
  ...[apiKeysCreate, apiKeysList, apiKeysDelete, auditList, auditVerify, auditRelay],
];

const runOver =
  (store: WorkerEnv["STORE"]): Store["run"] =>
  async (script, keys, args) => {
    const call: ScriptCall = { script, keys, args };
    const response = await store.fetch("http://store/", { method: "POST", body: JSON.stringify(call) });
    const answer = (await response.json()) as ScriptAnswer;
    if ("problem" in answer) throw new Problem(answer.problem.code, answer.problem);
    if ("error" in answer) throw new Error(answer.error);
    return answer.reply;
  };

async function build({ VARIABLES, STORE }: WorkerEnv) {
  const config = parseConfig(VARIABLES);
  const tokens = { issuer: config.LATCHKEY_JWT_ISSUER, audience: config.LATCHKEY_JWT_AUDIENCE };
  const authenticator = {
    verifyToken: await createTokenVerifier(config.LATCHKEY_JWT_PUBLIC_KEYS.keys, tokens),
    hashKey: createKeyHasher(config.LATCHKEY_API_KEY_PEPPERS),
    keyEnv: config.LATCHKEY_MODE === "production" ? "live" : "test",
  };
  const execute = createExecute(runOver(STORE), {
    limit: config.AUDIT_OUTBOX_MAX_ENTRIES,
    overflow: config.AUDIT_OVERFLOW,
  });
  const services: Partial<Services> = {
    items: createItemStore(execute),
    apiKeys: createApiKeyStore(execute, authenticator),
    users: createUserStore(execute),
    audit: createAuditStore(execute),
    // A worker has no sink, so nothing is read from an outbox.
    relay: createRelay({
      outbox: {} as Outbox,
      newPublisher: () => undefined,
      onQuarantine: () => undefined,
      onError: () => undefined,
    }),
  };
  for (const { route, needs } of functions) {
    const missing = needs.filter((need) => !(need in services));
    if (missing.length > 0) throw new Error(`${route.id} needs ${missing.join(", ")}`);
  }
  const gate: Gate = {
    authenticator,
    refuse: createRefuse(execute),
    maxValueBytes: config.LATCHKEY_VALUE_MAX_BYTES,
    trustedProxies: config.LATCHKEY_TRUSTED_PROXIES,
  };
  return createApp(functions, services as Services, gate);
}

/**
 * Built by the first requests, because what a worker is given comes with a request. What is kept is the application
 * and not its promise: workerd lets no request wait for another's.
 */
let app: Awaited<ReturnType<typeof build>> | undefined;

export default {
  async fetch(request: Request, env: WorkerEnv): Promise<Response> {
    app ??= await build(env);
    return app.fetch(request, {});
  },
};
