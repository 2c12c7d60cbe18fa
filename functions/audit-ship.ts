// Brings audit entries to Loki. Called by the Trigger with events of 1..N entries of one tenant and action.
// Costs a share of a batch; many deliveries wait for one push. Promises: answered 204 only when every entry is in Loki, or
// quarantined with its reason, and out of the outbox; what is not an event of ours goes to the dead letters.
import { defineEventFunction } from "../shared/event-function.ts";
import { readEvent } from "../shared/events.ts";
import { Problem } from "../shared/problems.ts";

export default defineEventFunction(
  "audit-ship",
  { needs: ["shipper", "outbox"] },
  async (delivery, { shipper, outbox }) => {
    const event = readEvent(delivery.headers, await delivery.text());
    if ("refused" in event) {
      throw new Problem("malformed_request", { detail: `This is no event of ours: ${event.refused}.` });
    }
    if (!(await outbox.hasTenant(event.tenantId))) {
      throw new Problem("malformed_request", { detail: "This is no event of ours: unknown_tenant." });
    }
    await shipper.accept(event.tenantId, event.entries);
  },
);
