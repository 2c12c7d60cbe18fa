/** Signing in: look-up of login names, limits on failures, and the login's audit entry. */
import { addressGroup } from "../address.ts";
import type { RequestContext } from "../call.ts";
import { roles } from "../permissions.ts";
import { Problem } from "../problems.ts";
import type { LoginAttempt, LoginStore } from "../users.ts";
import { type Audited, auditContext, followTrail, type Trail, trailArguments } from "./execute.ts";
import { addressFailuresKey, loginKey, tenantKeys, tenantTag, userFailuresKey } from "./keys.ts";
import type { Store } from "./store.ts";

interface LoginLimits {
  /** Failed logins allowed inside the window, for one username and for one source address. */
  readonly perUser: number;
  readonly perAddress: number;
  /** Seconds. */
  readonly window: number;
}

interface Options {
  readonly store: Store;
  readonly limits: LoginLimits;
  readonly trail: Trail;
  /** Told of every login that is not let in, and why. */
  readonly onFailure: (reason: string) => void;
}

export function createLoginStore({ store: { run, ask }, limits, trail, onFailure }: Options): LoginStore {
  /** Ask or update both counters. @throws {Problem} too_many_attempts when either has reached its limit */
  async function limit(username: string, sourceIp: string | undefined, event: "check" | "failed" | "passed") {
    const window = String(limits.window * 1000);
    const counters = [
      run("limit-login", [userFailuresKey(username)], [event, String(limits.perUser), window, "1"]),
    ];
    if (sourceIp !== undefined) {
      const key = addressFailuresKey(addressGroup(sourceIp));
      counters.push(run("limit-login", [key], [event, String(limits.perAddress), window, "0"]));
    }
    const wait = Math.max(...(await Promise.all(counters)).map(Number));
    if (wait > 0) {
      onFailure("too_many_attempts");
      throw new Problem("too_many_attempts", { headers: { "Retry-After": String(Math.ceil(wait / 1000)) } });
    }
  }

  /** The login's decision and audit entry. @returns the script's code, with role and epoch */
  async function record(
    request: RequestContext,
    { tenantId, userId, epoch }: LoginAttempt,
    matched: boolean,
    newHash = "",
  ): Promise<{ code: string; role: string; epoch: number }> {
    const { audit, auditDenied = audit } = request.route;
    const { tenant, users, outbox, pending, backlog } = tenantKeys(tenantTag(tenantId));
    const [success, failure] = [
      auditContext(request, audit, userId),
      auditContext(request, auditDenied, userId),
    ];
    const reply = await run(
      "record-login",
      [tenant, users, outbox, pending, backlog],
      [...[userId, epoch, matched ? "1" : "0", newHash, ...trailArguments(trail)], success, failure],
    );
    type Reply = [
      code: string,
      tenantId: string,
      account?: [role: string, epoch: string],
      ...audited: Audited,
    ];
    const [code, knownTenant, [role = "", currentEpoch] = [], ...audited] = reply as Reply;
    if (knownTenant !== "") request.tenantId = knownTenant;
    followTrail(trail, audited, knownTenant, code === "ok" ? success : failure);
    if (code === "outbox_full") throw new Problem("audit_unavailable", { cause: code });
    if (code !== "ok") onFailure(code === "tenant_unknown" ? "user_unknown" : code);
    return { code, role, epoch: Number(currentEpoch) };
  }

  return {
    async begin(username, sourceIp) {
      const [login] = await Promise.all([
        ask((redis) => redis.get(loginKey(username))),
        limit(username, sourceIp, "check"),
      ]);
      const [tenantId = "", userId = ""] = login?.split(" ") ?? [];
      const { users } = tenantKeys(tenantTag(tenantId));
      const [hash, epoch] = await ask((redis) => redis.hmget(users, `${userId}.password`, `${userId}.epoch`));
      return { username, sourceIp, tenantId, userId, epoch: epoch ?? "", passwordHash: hash ?? undefined };
    },

    async succeed(request, attempt, newHash) {
      await limit(attempt.username, attempt.sourceIp, "passed");
      const { code, role, epoch } = await record(request, attempt, true, newHash);
      const known = roles.find((one) => one === role);
      if (code !== "ok" || known === undefined) throw new Problem("invalid_grant", { cause: code });
      return { tenantId: attempt.tenantId, userId: attempt.userId, role: known, epoch };
    },

    async fail(request, attempt) {
      // Sent together: a known user's entry must not take a round trip, or a write to disk, that an unknown one's does not.
      const [counted, recorded] = await Promise.allSettled([
        limit(attempt.username, attempt.sourceIp, "failed"),
        record(request, attempt, false),
      ]);
      if (counted.status === "rejected") throw counted.reason;
      // A full outbox refuses what would succeed. To say so here would tell who exists.
      const isFull = recorded.status === "rejected" && recorded.reason?.code === "audit_unavailable";
      if (recorded.status === "rejected" && !isFull) throw recorded.reason;
      return new Problem("invalid_grant");
    },
  };
}
