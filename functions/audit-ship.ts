// Brings audit entries to Loki. Called by the Trigger with events of 1..N entries of one tenant and action.
// Costs a share of a batch, for which many deliveries wait, and one look at the tenant's last number.
// Promises: answered 204 only when every entry is in Loki, or refused by it for good, and out of the outbox; what is refused
// and was in the outbox is quarantined with the reason; or when it stays in the outbox behind what has waited for longer, from
// where audit-relay brings it again. What is no event of ours goes to the dead letters.
// Who may send is for the cluster's network to say (only the Broker): the content of an event is not proven to be ours,
// but for a known tenant and numbers that were given out, so that nothing sent here can stand before what is still to come.
import { defineEventFunction } from "../shared/event-function.ts";
import { readEvent } from "../shared/events.ts";
import { Problem } from "../shared/problems.ts";

const notOurs = (reason: string): Problem =>
  new Problem("malformed_request", { detail: `This is no event of ours: ${reason}.` });

export default defineEventFunction(
  "audit-ship",
  { needs: ["shipper", "outbox"] },
  async (delivery, { shipper, outbox }) => {
    const event = readEvent(delivery.headers, await delivery.text());
    if ("refused" in event) throw notOurs(event.refused);
    const highest = Math.max(...event.entries.map(({ seq }) => seq));
    const last = await outbox.lastSeq(event.tenantId, highest);
    if (last === undefined) throw notOurs("unknown_tenant");
    if (last < highest) throw notOurs("unknown_number");
    await shipper.accept(event.tenantId, event.entries);
  },
);
