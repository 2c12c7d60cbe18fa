/** Mixed load of several tenants, each request with an id of its own, remembering what was answered. */
import { setTimeout as sleep } from "node:timers/promises";
import type { AuditAction } from "../../shared/audit.ts";
import type { Answer } from "./harness.ts";
import { type ProcessTenant, send } from "./process.ts";

/** `none`: answered, and nobody is there to have an entry. `unknown`: no answer, or 503. */
type Outcome = "success" | "denied" | "failure" | "none" | "unknown";

/** One request and its fate. */
export interface Sent {
  readonly requestId: string;
  readonly tenant: string;
  readonly action: AuditAction;
  /** Of the entry; undefined where it is not known. */
  readonly target: string | undefined;
  outcome: Outcome;
  status: number | undefined;
  /** Of the item, as it was answered. */
  expiresAt?: string;
}

interface Step {
  readonly action: AuditAction;
  readonly target?: string;
  readonly as: string;
  readonly request: readonly [method: string, path: string, json?: object | string];
}

interface Actor {
  readonly id: string;
  readonly token: string;
  /** An API key that may read and write, and one that may only read. */
  readonly writing: string;
  readonly reading: string;
  /** Ids of further API keys. */
  readonly keys: string[];
}

interface Options {
  readonly random: () => number;
  readonly tenants: readonly ProcessTenant[];
  /** Where to send; undefined while nobody serves there. */
  readonly origin: () => string | undefined;
}

const WRITERS_PER_TENANT = 4;
/** Milliseconds between an answer and the writer's next request, at most; mostly far less. */
const MAX_PAUSE = 100;
/** Keys of items that the writers of a tenant fight for, without and with a ttl. */
const SHARED_ITEMS = 8;
const FLEETING_ITEMS = 3;
/** Seconds. */
export const MAX_TTL = 3;

/** What an answer says about its entry. */
function outcomeOf(status: number): Outcome {
  if (status < 300) return "success";
  if (status === 401) return "none";
  if (status === 403) return "denied";
  return status === 503 ? "unknown" : "failure";
}

export async function startLoad({ random, tenants, origin }: Options) {
  const sent: Sent[] = [];
  const life = { stopping: false };
  const upTo = (count: number): number => Math.floor(random() * count);

  async function attempt(tenant: string, { action, target, as, request }: Step): Promise<Answer | undefined> {
    const requestId = `crash-${sent.length}`;
    const record: Sent = { requestId, tenant, action, target, outcome: "unknown", status: undefined };
    sent.push(record);
    const [method, path, json] = request;
    const headers = { "x-request-id": requestId };
    const body = typeof json === "string" ? { raw: json } : { json };
    if (typeof json === "string") Object.assign(headers, { "content-type": "application/json" });
    try {
      const answer = await send(origin() ?? "", method, path, { as, headers, ...body });
      record.status = answer.status;
      record.outcome = outcomeOf(answer.status);
      const expiresAt = answer.status < 300 ? answer.body?.expires_at : undefined;
      if (typeof expiresAt === "string") record.expiresAt = expiresAt;
      return answer;
    } catch {
      return undefined; // The process died, or was not there.
    }
  }

  const createKey = (actor: Pick<Actor, "token">, scopes: string[]): Step => ({
    action: "create_api_key",
    as: actor.token,
    request: ["POST", "/api-keys", { name: "crash", scopes }],
  });

  const withTtl = () => ({ value: upTo(1000), ttl: 1 + upTo(MAX_TTL) });

  /** An item, by a person or an API key; with a ttl when it is fleeting. */
  function itemStep({ token, writing }: Actor, key: string, isFleeting: boolean): Step {
    const as = random() < 0.5 ? token : writing;
    const content = isFleeting && random() < 0.8 ? withTtl() : { value: upTo(1000) };
    const path = `/data/${key}`;
    const choice = upTo(10);
    if (choice < 4)
      return { action: "create_key", target: key, as, request: ["POST", "/data", { key, ...content }] };
    if (choice < 6) return { action: "update_key", target: key, as, request: ["PUT", path, content] };
    if (choice < 8) return { action: "delete_key", target: key, as, request: ["DELETE", path] };
    return { action: "get_key", target: key, as, request: ["GET", path] };
  }

  /** Denied by the store, refused before it, or of somebody unknown. */
  function refusedStep({ token, reading }: Actor): Step {
    const key = `denied-${sent.length}`;
    const item = {
      action: "create_key",
      target: key,
      request: ["POST", "/data", { key, value: 1 }],
    } as const;
    const choice = upTo(4);
    if (choice === 0) return { action: "create_key", as: token, request: ["POST", "/data", "{"] };
    if (choice === 1) return { ...item, as: `${token.slice(0, -8)}AAAAAAAA` };
    if (choice === 2) return { action: "list_api_keys", as: reading, request: ["GET", "/api-keys"] };
    return { ...item, as: reading };
  }

  function apiKeyStep(actor: Actor): Step {
    const { keys, token } = actor;
    if (keys.length === 0 || random() < 0.5) return createKey(actor, ["data:read"]);
    // Now and then one that is gone already.
    const target = (random() < 0.8 ? keys.splice(upTo(keys.length), 1)[0] : keys[0]) as string;
    return { action: "delete_api_key", target, as: token, request: ["DELETE", `/api-keys/${target}`] };
  }

  function drawStep(actor: Actor): Step {
    const choice = upTo(100);
    const as = actor.token;
    if (choice < 45) return itemStep(actor, `shared-${upTo(SHARED_ITEMS)}`, false);
    if (choice < 60) return itemStep(actor, `fleeting-${upTo(FLEETING_ITEMS)}`, true);
    if (choice < 70) {
      // Touched by nobody else: it must expire.
      const key = `once-${sent.length}`;
      return { action: "create_key", target: key, as, request: ["POST", "/data", { key, ...withTtl() }] };
    }
    if (choice < 80) return refusedStep(actor);
    if (choice < 92) return apiKeyStep(actor);
    if (choice < 97) return { action: "get_user", as, request: ["GET", "/users/me"] };
    if (choice < 98) return { action: "relay_audit", as, request: ["POST", "/trigger-log-offload"] };
    return { action: "list_api_keys", as, request: ["GET", "/api-keys"] };
  }

  async function write(actor: Actor): Promise<void> {
    while (!life.stopping) {
      await sleep(MAX_PAUSE * random() ** 3);
      if (origin() === undefined) continue;
      const step = drawStep(actor);
      const answer = await attempt(actor.id, step);
      if (step.action === "create_api_key" && answer?.status === 201) actor.keys.push(answer.body.key_id);
    }
  }

  async function actorOf({ id, token }: ProcessTenant): Promise<Actor> {
    const [writing, reading] = await Promise.all(
      [["data:read", "data:write"], ["data:read"]].map((scopes) => attempt(id, createKey({ token }, scopes))),
    );
    return { id, token, writing: writing?.body.key_value, reading: reading?.body.key_value, keys: [] };
  }

  const actors = await Promise.all(tenants.map(actorOf));
  const writers = actors.flatMap((actor) => Array.from({ length: WRITERS_PER_TENANT }, () => write(actor)));
  return {
    sent: sent as readonly Readonly<Sent>[],
    /** Let every writer finish what it is at. */
    async stop() {
      life.stopping = true;
      await Promise.all(writers);
    },
  };
}
