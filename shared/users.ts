/** People: their schemas, what a store of them can do, and how they sign in. */
import * as z from "zod";
import type { Call, RequestContext } from "./call.ts";
import { tenantId } from "./formats.ts";
import { type Role, roles } from "./permissions.ts";
import type { Problem } from "./problems.ts";

export const userView = z.object({
  username: z.string(),
  email: z.string().nullable(),
  full_name: z.string().nullable(),
  disabled: z.boolean(),
  tenant_id: tenantId,
  role: z.enum(roles),
});
type UserView = z.infer<typeof userView>;

export interface UserStore {
  /** The calling user. */
  me(call: Call): Promise<UserView>;
}

/**
 * What a sign-in needs to know. A username that nobody has leads to a user of no tenant without a password: the same
 * steps are taken for it as for any other, so that time does not tell them apart.
 */
export interface LoginAttempt {
  readonly username: string;
  readonly sourceIp: string | undefined;
  readonly tenantId: string;
  readonly userId: string;
  readonly epoch: string;
  readonly passwordHash: string | undefined;
}

/** Whom a JWT is for. */
export interface Principal {
  readonly tenantId: string;
  readonly userId: string;
  readonly role: Role;
  readonly epoch: number;
}

export interface LoginStore {
  /** Look a username up. @throws {Problem} too_many_attempts */
  begin(username: string, sourceIp: string | undefined): Promise<LoginAttempt>;
  /**
   * The password was right. Whether the account may sign in is decided here, together with its audit entry.
   * @param newHash replaces the stored password hash, when its parameters are outdated.
   * @throws {Problem} too_many_attempts, invalid_grant
   */
  succeed(request: RequestContext, attempt: LoginAttempt, newHash: string | undefined): Promise<Principal>;
  /**
   * The password was wrong or the user unknown.
   * @returns what to answer: invalid_grant
   * @throws {Problem} too_many_attempts
   */
  fail(request: RequestContext, attempt: LoginAttempt): Promise<Problem>;
}
