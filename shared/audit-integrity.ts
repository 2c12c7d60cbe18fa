/** Whether an audit trail is whole: its numbers count 1, 2, 3… per tenant, so what is missing can be proven. */
import * as z from "zod";
import type { AuditEntry } from "./audit.ts";

/** Gaps and duplicates that one answer lists. */
const MAX_LISTED = 100;

export const integrityView = z.object({
  /** Lowest and highest number that was found; null when there is none. */
  first: z.int().nullable(),
  last: z.int().nullable(),
  /** How many numbers were found: in Loki, in the outbox, or quarantined. */
  found: z.int(),
  /**
   * Numbers that were given out and not found, `from` to `to` inclusive; 100 ranges at most, and none below what was
   * looked at.
   */
  gaps: z.array(z.object({ from: z.int(), to: z.int() })),
  /** Numbers under which different entries were found; 100 at most. */
  duplicates: z.array(z.int()),
  /** Whether everything in the range was looked at; if not, ask again with `to` at an earlier time. */
  complete: z.boolean(),
});
export type IntegrityView = z.infer<typeof integrityView>;

export interface Findings {
  /** None beyond the last number given out. */
  readonly entries: readonly Pick<AuditEntry, "seq" | "id">[];
  /** Numbers of entries that Loki would not take and that are kept elsewhere. */
  readonly quarantined: readonly number[];
  /** Numbers that must be there: the first one ever, the last one given out; absent where a time range cuts them off. */
  readonly expectedFirst?: number;
  readonly expectedLast?: number;
  /** The lowest number from which on everything was looked at; absent when that is the whole range. */
  readonly wholeFrom?: number;
}

export function checkIntegrity(findings: Findings): IntegrityView {
  const { expectedFirst, expectedLast, wholeFrom } = findings;
  const ids = new Map<number, string>();
  const duplicates = new Set<number>();
  for (const { seq, id } of findings.entries) {
    if (ids.has(seq) && ids.get(seq) !== id) duplicates.add(seq);
    ids.set(seq, id);
  }
  // When they happened is not asked: inside a time range they only explain what would be a gap.
  const lowest = expectedFirst ?? Math.min(...ids.keys(), expectedLast ?? Number.POSITIVE_INFINITY);
  const highest = expectedLast ?? Math.max(...ids.keys());
  const quarantined = findings.quarantined.filter((seq) => seq >= lowest && seq <= highest);
  const seqs = [...new Set([...ids.keys(), ...quarantined])].sort((a, b) => a - b);
  const gaps: { from: number; to: number }[] = [];
  // What is not found below may be where nobody has looked.
  let next = wholeFrom ?? expectedFirst ?? seqs[0] ?? expectedLast;
  for (const seq of seqs) {
    if (next === undefined || seq < next) continue;
    if (seq > next) gaps.push({ from: next, to: seq - 1 });
    next = seq + 1;
  }
  if (expectedLast !== undefined && next !== undefined && next <= expectedLast) {
    gaps.push({ from: next, to: expectedLast });
  }
  return {
    first: seqs[0] ?? null,
    last: seqs.at(-1) ?? null,
    found: seqs.length,
    gaps: gaps.slice(0, MAX_LISTED),
    duplicates: [...duplicates].slice(0, MAX_LISTED),
    complete: wholeFrom === undefined,
  };
}
