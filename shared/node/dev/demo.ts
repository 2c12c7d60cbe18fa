/** Demo tenants and users for an empty store: only `npm start` ever creates them. */
import type { Role } from "../../permissions.ts";
import { DEMO_KEY } from "../../redis/keys.ts";
import type { Store } from "../../redis/store.ts";
import { createTenant, createUser } from "../../redis/tenants.ts";
import { createPasswordHasher } from "../passwords.ts";

export const DEMO_PASSWORD = "secret";
const demoUsers: readonly { tenant: string; username: string; role: Role; fullName: string }[] = [
  { tenant: "tenant1", username: "admin", role: "admin", fullName: "Ada Admin" },
  { tenant: "tenant1", username: "user1", role: "user", fullName: "Uma User" },
  { tenant: "tenant2", username: "user2", role: "user", fullName: "Ursel User" },
];

/**
 * Create them in a store that is empty, or that an earlier run was killed while filling.
 * @returns whether this store has the demo users
 */
export async function createDemoUsers(store: Store): Promise<boolean> {
  const state = await store.ask((redis) => redis.get(DEMO_KEY));
  if (state === "complete") return true;
  if (state === null && (await store.ask((redis) => redis.dbsize())) > 0) return false;
  await store.ask((redis) => redis.set(DEMO_KEY, "incomplete"));
  const passwordHash = await createPasswordHasher(1).hash(DEMO_PASSWORD, "demo");
  for (const { tenant, username, role, fullName } of demoUsers) {
    await createTenant(store, tenant);
    await createUser(store, tenant, {
      username,
      passwordHash,
      role,
      fullName,
      email: `${username}@example.com`,
    });
  }
  await store.ask((redis) => redis.set(DEMO_KEY, "complete"));
  return true;
}
