// What became of an event that nobody could deliver? Keeps it with the reason, for an operator to look at and to send
// again. Called by the Broker as the Trigger's dead letter sink. Costs one script call. Promises: as the last stop it
// takes anything, be it no CloudEvent at all; of a body it keeps the first 256 KiB. A letter that is delivered twice is
// kept twice.
import { MAX_LETTER_BYTES, readDeadLetter } from "../shared/dead-letter.ts";
import { defineEventFunction } from "../shared/event-function.ts";

export default defineEventFunction(
  "audit-dead-letter",
  { needs: ["deadLetters"] },
  async (delivery, { deadLetters }) => {
    await deadLetters.keep(readDeadLetter(delivery.headers, await delivery.start(MAX_LETTER_BYTES)));
  },
);
