// Publishes again what is still in an outbox: what a crash, a full queue or a lost event has left there.
// Called by a PingSource every minute for all tenants, and by admins for their own. Promises: safe to run several times
// at once, because an entry that arrives twice is the same line in Loki; bounded per call.
import * as z from "zod";
import { defineEventFunction } from "../shared/event-function.ts";
import { defineFunction } from "../shared/function.ts";

export const reply = z.object({ task_id: z.string() });

export default defineFunction(
  "audit-relay",
  { needs: ["audit", "relay"], request: {}, reply },
  async (_, call, { audit, relay }) => {
    const tenantId = await audit.recordRelay(call);
    return { status: 202, body: { task_id: relay.startFor(tenantId) } };
  },
);

export const events = defineEventFunction("audit-relay", { needs: ["relay"] }, async (_, { relay }) => {
  await relay.publishOverdue();
});
