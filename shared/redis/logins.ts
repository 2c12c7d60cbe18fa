/** Signing in: look-up of login names, limits on failures, and the login's audit entry. */
import type { Redis } from "ioredis";
import type { RequestContext } from "../call.ts";
import { type Role, roles } from "../permissions.ts";
import { Problem } from "../problems.ts";
import type { LoginAttempt, LoginStore } from "../users.ts";
import { type RunScript, read } from "./client.ts";
import { auditContext } from "./execute.ts";
import { addressFailuresKey, loginKey, tenantKeys, tenantTag, userFailuresKey } from "./keys.ts";

interface LoginLimits {
  /** Failed logins allowed inside the window, for one username and for one source address. */
  readonly perUser: number;
  readonly perAddress: number;
  /** Seconds. */
  readonly window: number;
}

interface Options {
  readonly run: RunScript;
  readonly redis: Pick<Redis, "get" | "hmget">;
  readonly limits: LoginLimits;
  readonly outboxLimit: number;
  /** Told of every login that is not let in, and why. */
  readonly onFailure: (reason: string) => void;
}

export function createLoginStore({ run, redis, limits, outboxLimit, onFailure }: Options): LoginStore {
  /** Ask or update both counters. @throws {Problem} too_many_attempts when either has reached its limit */
  async function limit(
    { username, sourceIp }: Omit<LoginAttempt, "account">,
    event: "check" | "failed" | "passed",
  ) {
    const window = String(limits.window * 1000);
    const counters = [
      run("limit-login", [userFailuresKey(username)], [event, String(limits.perUser), window, "1"]),
    ];
    if (sourceIp !== undefined) {
      const key = addressFailuresKey(sourceIp);
      counters.push(run("limit-login", [key], [event, String(limits.perAddress), window, "0"]));
    }
    const wait = Math.max(...(await Promise.all(counters)).map(Number));
    if (wait > 0) {
      onFailure("too_many_attempts");
      throw new Problem("too_many_attempts", { headers: { "Retry-After": String(Math.ceil(wait / 1000)) } });
    }
  }

  /** The login's decision and audit entry. @returns the script's code, with role and epoch */
  async function record(request: RequestContext, { account }: Account, matched: boolean, newHash = "") {
    const { audit, auditDenied = audit } = request.route;
    const { tenant, users, outbox, pending, backlog } = tenantKeys(tenantTag(account.tenantId));
    const reply = await run(
      "record-login",
      [tenant, users, outbox, pending, backlog],
      [
        ...[account.userId, account.epoch, matched ? "1" : "0", newHash, String(outboxLimit)],
        auditContext(request, audit, account.userId),
        auditContext(request, auditDenied, account.userId),
      ],
    );
    const [code, tenantId, [role, epoch] = []] = reply as [string, string, [string, string]?];
    request.tenantId = tenantId;
    if (code === "outbox_full") throw new Problem("audit_unavailable", { cause: code });
    if (code !== "ok") onFailure(code);
    return { code, role: roles.find((one) => one === role) as Role, epoch: Number(epoch) };
  }

  return {
    async begin(username, sourceIp) {
      const attempt = { username, sourceIp };
      const [login] = await Promise.all([read(redis.get(loginKey(username))), limit(attempt, "check")]);
      if (login === null) return attempt;
      const [tenantId = "", userId = ""] = login.split(" ");
      const { users } = tenantKeys(tenantTag(tenantId));
      const [passwordHash, epoch] = await read(redis.hmget(users, `${userId}.password`, `${userId}.epoch`));
      if (!passwordHash || !epoch) return attempt;
      return { ...attempt, account: { tenantId, userId, passwordHash, epoch } };
    },

    async succeed(request, attempt, newHash) {
      await limit(attempt, "passed");
      const { code, role, epoch } = await record(request, attempt as Account, true, newHash);
      if (code !== "ok") throw new Problem("invalid_grant", { cause: code });
      const { tenantId, userId } = (attempt as Account).account;
      return { tenantId, userId, role, epoch };
    },

    async fail(request, attempt) {
      await limit(attempt, "failed");
      if (attempt.account === undefined) onFailure("user_unknown");
      else await record(request, attempt as Account, false);
      return new Problem("invalid_grant");
    },
  };
}

/** An attempt on an account that exists. */
type Account = LoginAttempt & Required<Pick<LoginAttempt, "account">>;
