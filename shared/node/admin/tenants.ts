/** The first tenants and users of an installation, before anybody can log in. */
import { text } from "node:stream/consumers";
import * as z from "zod";
import { tenantId } from "../../formats.ts";
import { roles } from "../../permissions.ts";
import { createOutbox } from "../../redis/outbox.ts";
import { createTenant, createUser } from "../../redis/tenants.ts";
import { createPasswordHasher } from "../passwords.ts";
import { command, Refusal } from "./command.ts";

const password = z
  .string()
  .min(8, "The password has fewer than 8 characters")
  .max(1024, "The password is too long");

export const createFirstTenant = command(
  "<tenant>, of a-z, 0-9 and -, 63 at most",
  z.tuple([tenantId]),
  async function* ([tenant], { store }) {
    if (!(await createTenant(store, tenant))) throw new Refusal("The tenant exists already");
    yield `Created the tenant ${tenant}`;
  },
);

export const createFirstUser = command(
  `<tenant> <username> <${roles.join("|")}>, with the password on standard input`,
  z.tuple([tenantId, z.string().min(1).max(256), z.enum(roles)]),
  async function* ([tenant, username, role], { store }) {
    if (!(await createOutbox(store).hasTenant(tenant))) throw new Refusal("There is no such tenant");
    const secret = password.parse((await text(process.stdin)).replace(/\r?\n$/, ""));
    const passwordHash = await createPasswordHasher(1).hash(secret, username);
    const userId = await createUser(store, tenant, { username, passwordHash, role });
    if (userId === undefined) throw new Refusal("The username is taken");
    yield `Created the user ${username} (${userId})`;
  },
);
