// Is my audit trail whole? Looks whether every number that was given out is in Loki, in the outbox or quarantined.
// Costs one Redis round trip and as many queries of Loki as the range needs, ten at most.
// Promises: an entry that is missing shows as a gap; what could not be looked at is not called whole.
import * as z from "zod";
import { auditFilter } from "../shared/audit.ts";
import { integrityView } from "../shared/audit-integrity.ts";
import { defineFunction } from "../shared/function.ts";

export const request = {
  query: z.strictObject({ from: auditFilter.shape.from, to: auditFilter.shape.to }),
};

export const reply = integrityView;

export default defineFunction(
  "audit-verify",
  { needs: ["audit"], request, reply },
  async ({ query }, call, { audit }) => {
    return { status: 200, body: await audit.verify(call, query) };
  },
);
