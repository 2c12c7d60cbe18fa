// Whose time is over? Turns the expiry of items into audit entries. Called by a PingSource every minute.
// Promises: exactly one entry for each expiry, with its true time, and none for an item that was deleted or extended.
import { defineEventFunction } from "../shared/event-function.ts";

export default defineEventFunction("data-expire", { needs: ["expiries"] }, async (_, { expiries }) => {
  await expiries.record();
});
