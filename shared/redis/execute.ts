/** Authenticated operations: one script call each, from a Call to a result or a Problem. */
import type { AuditAction, AuditDetails } from "../audit.ts";
import type { Call, Caller, RequestContext } from "../call.ts";
import { newId } from "../formats.ts";
import { type Permission, rolesHolding } from "../permissions.ts";
import { insufficientScope, Problem } from "../problems.ts";
import { type Appended, appendedEntry, type OnEntry } from "./audit.ts";
import { type TenantKeys, tenantKeys, tenantTag } from "./keys.ts";
import type { ScriptName } from "./scripts.ts";
import type { Store } from "./store.ts";

interface Operation {
  readonly script: ScriptName;
  /** The operation's own keys and arguments, after those that all share. */
  readonly keys?: (tenant: TenantKeys) => readonly string[];
  readonly args?: readonly string[];
  /** For the audit entry. */
  readonly target?: string;
  readonly details?: AuditDetails;
  /** Permissions that the caller must hold besides the route's: nobody hands out more than they have. */
  readonly alsoNeeds?: readonly Permission[];
  /** The code that means it went as it should; `ok` unless said otherwise. */
  readonly expects?: string;
}

/** What becomes of the entries that operations leave. */
export interface Trail {
  /** Entries that a tenant's outbox holds at most. */
  readonly limit: number;
  /** When it is full: refuse operations, or carry them out without an entry. */
  readonly overflow: "refuse" | "continue";
  readonly onEntry?: OnEntry | undefined;
  /** Told how many entries an operation could not leave. */
  readonly onUnaudited?: (entries: number) => void;
}

/** The part of a script's answer that is about the trail; absent when nobody is there to answer for the operation. */
export type Audited = [appended?: Appended | null, unaudited?: number];

export const trailArguments = ({ limit, overflow }: Trail): [string, string] => [String(limit), overflow];

export function followTrail(
  { onEntry, onUnaudited }: Trail,
  [appended, unaudited = 0]: Audited,
  tenantId: string,
  context: string,
): void {
  if (appended) onEntry?.(appendedEntry(tenantId, appended, context));
  if (unaudited > 0) onUnaudited?.(unaudited);
}

/** Run an operation and answer the script's reply. @throws {Problem} for every code but the expected one */
export type Execute = (call: Call, operation: Operation) => Promise<unknown>;

export function createExecute(run: Store["run"], trail: Trail): Execute {
  return async function execute(
    call,
    { script, keys, args = [], target, details, alsoNeeds = [], expects = "ok" },
  ) {
    const { caller, route } = call;
    const needed = route.permission === undefined ? alsoNeeds : [route.permission, ...alsoNeeds];
    const tenant = tenantKeys(caller.kind === "user" ? tenantTag(caller.tenantId) : caller.tenantTag);
    const context = auditContext(call, route.audit, target ?? null, details);
    call.done = true;
    const reply = await run(
      script,
      [...callerKeys(tenant, caller), ...(keys?.(tenant) ?? [])],
      [...callerArguments(call, needed), ...trailArguments(trail), context, ...args],
    );
    const [code, tenantId, result, ...audited] = reply as [string, string, unknown, ...Audited];
    if (tenantId !== "") call.tenantId = tenantId;
    followTrail(trail, audited, tenantId, context);
    if (code !== expects) throw problemOf(code, isForPeople(call) ? "" : needed.join(" "));
    return result;
  };
}

/** An API key at a route that takes none: no scope would help. */
const isForPeople = ({ caller, route }: Call): boolean =>
  caller.kind === "api_key" && route.credential !== "any";

function callerKeys(tenant: TenantKeys, caller: Caller): string[] {
  const { tenant: record, users, apiKeys, outbox, pending, backlog } = tenant;
  if (caller.kind === "user") return [record, users, outbox, pending, backlog];
  return [record, apiKeys, outbox, pending, backlog, tenant.deletedApiKey(caller.keyId)];
}

function callerArguments(call: Call, needed: readonly Permission[]): string[] {
  const { caller, route } = call;
  if (caller.kind === "user") {
    return [
      "user",
      caller.tenantId,
      caller.userId,
      String(caller.epoch),
      `,${rolesHolding(needed).join(",")},`,
    ];
  }
  const hashes = caller.hashes.map(({ pepper, hash }) => ` ${pepper}:${hash}`).join("");
  const scope = isForPeople(call) ? "" : (route.permission ?? "");
  return ["api_key", "", caller.keyId, hashes, scope];
}

/** The part of an audit entry that is known before the store decides. */
export function auditContext(
  { route, requestId, traceparent, sourceIp }: RequestContext,
  action: AuditAction,
  target: string | null,
  details: AuditDetails = {},
): string {
  return JSON.stringify({
    id: newId("evt"),
    action,
    request_id: requestId,
    traceparent,
    source_ip: sourceIp,
    target: { type: route.target, id: target },
    details,
  });
}

/** Internal reason -> public answer, for every code that a script can give. */
function problemOf(code: string, scope: string): Problem {
  switch (code) {
    case "tenant_unknown":
    case "tenant_suspended":
    case "user_unknown":
    case "user_disabled":
    case "token_revoked":
    case "key_unknown":
    case "key_mismatch":
    case "key_deleted":
    case "key_disabled":
    case "key_expired":
      return new Problem("invalid_token", { cause: code });
    case "insufficient_scope":
      return insufficientScope(scope);
    case "not_found":
    case "already_exists":
    case "precondition_failed":
      return new Problem(code);
    case "outbox_full":
      return new Problem("audit_unavailable", { cause: code });
    default:
      throw new Error(`Unexpected answer of a script: ${code}`);
  }
}

/** A call that ends before its operation: authenticated and audited all the same. */
export const createRefuse =
  (execute: Execute) =>
  async (call: Call, { code }: Problem): Promise<void> => {
    await execute(call, { script: "refuse-request", args: [code], expects: code });
  };
