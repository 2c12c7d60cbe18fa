/** Creating tenants and users. */
import { newId } from "../formats.ts";
import type { Role } from "../permissions.ts";
import { loginKey, tenantKeys, tenantTag } from "./keys.ts";
import type { Store } from "./store.ts";

export interface NewUser {
  readonly username: string;
  readonly passwordHash: string;
  readonly role: Role;
  readonly email?: string;
  readonly fullName?: string;
}

/** @returns false when the tenant, or another with the same tag, exists already */
export async function createTenant({ run }: Store, tenantId: string): Promise<boolean> {
  const [code] = (await run("create-tenant", [tenantKeys(tenantTag(tenantId)).tenant], [tenantId])) as [
    string,
  ];
  return code === "ok";
}

/**
 * Create a user of an existing tenant. The record comes before the login name, which is the last and only step that
 * makes it a user: a crash in between leaves a record that nobody can reach.
 * @returns the user's id; undefined when the username is taken
 */
export async function createUser(
  { ask, watch }: Store,
  tenantId: string,
  user: NewUser,
): Promise<string | undefined> {
  const userId = newId("usr");
  const { users } = tenantKeys(tenantTag(tenantId));
  const record = {
    username: user.username,
    password: user.passwordHash,
    role: user.role,
    email: user.email ?? "",
    full_name: user.fullName ?? "",
    disabled: "",
    epoch: "0",
  };
  const fields = Object.entries(record).map(([name, value]) => [`${userId}.${name}`, value] as const);
  const confirmRecord = await watch(users);
  await ask((redis) => redis.hset(users, Object.fromEntries(fields)));
  await confirmRecord();
  const login = loginKey(user.username);
  const leadsHere = `${tenantId} ${userId}`;
  const confirmLogin = await watch(login);
  const holder = await ask((redis) => redis.set(login, leadsHere, "NX", "GET"));
  // Sent again after a lost answer, it finds itself.
  if (holder === null || holder === leadsHere) {
    await confirmLogin();
    return userId;
  }
  await ask((redis) => redis.hdel(users, ...fields.map(([name]) => name)));
  return undefined;
}
