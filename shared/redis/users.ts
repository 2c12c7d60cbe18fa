/** Users in Redis: fields `<user id>.<property>` of one hash per tenant. */
import { roles } from "../permissions.ts";
import type { UserStore } from "../users.ts";
import type { Execute } from "./execute.ts";
import { fieldsOf } from "./replies.ts";

export function createUserStore(execute: Execute): UserStore {
  return {
    async me(call) {
      const target = call.caller.kind === "user" ? call.caller.userId : call.caller.keyId;
      const reply = await execute(call, { script: "get-user", target });
      const [username = "", email, full_name, role] = fieldsOf(reply);
      return {
        username,
        email: email || null,
        full_name: full_name || null,
        // A disabled user would not have been let in.
        disabled: false,
        tenant_id: call.tenantId ?? "",
        role: roles.find((one) => one === role) ?? "user",
      };
    },
  };
}
