/** Pages of the audit trail over its two homes: the outbox, where entries wait, and Loki, where they end up. */
import type { AuditEntry } from "./audit.ts";

/** Where a page ends: what comes next has a lower number in the outbox, and an earlier time (decimal nanoseconds) in Loki. */
export interface Position {
  readonly seq: number;
  readonly ns: string;
}

/** What one home has to say, newest first. */
export interface Part {
  readonly entries: readonly AuditEntry[];
  /** Nanoseconds, decimal. Set when what is older than this was not looked at. */
  readonly floor?: string;
}

const CURSOR = /^([1-9]\d{0,14})-(\d{1,19})$/;

export const cursorOf = ({ seq, ns }: Position): string => `${seq}-${ns}`;

/** @returns undefined for a text that no cursor is */
export function positionOf(cursor: string): Position | undefined {
  const [, seq, ns] = CURSOR.exec(cursor) ?? [];
  return seq === undefined || ns === undefined ? undefined : { seq: Number(seq), ns };
}

interface Look {
  /** All that was looked at there, whether it matches or not. */
  readonly outbox: Part;
  readonly loki: Part;
  /** All of the outbox's numbers are lower than this. */
  readonly below: number;
  readonly limit: number;
  readonly matches: (entry: AuditEntry) => boolean;
  readonly nsOf: (entry: AuditEntry) => string;
}

/**
 * The next page. An entry that is on its way stands in both homes and is taken once. Below the higher of the floors
 * one home may hold entries that the other was not asked for, so the page ends there and the next one goes on.
 * What Loki holds is ordered by Loki's times alone: a forged number can neither hide what is ours nor lead back.
 */
export function mergePage({ outbox, loki, below, limit, matches, nsOf }: Look): {
  entries: AuditEntry[];
  next: Position | null;
} {
  const timed = ({ entries }: Part) => entries.map((entry) => ({ entry, at: BigInt(nsOf(entry)) }));
  const waiting = timed(outbox);
  const floors = [outbox, loki].flatMap(({ floor }) => (floor === undefined ? [] : BigInt(floor)));
  const floor = floors.reduce((a, b) => (a > b ? a : b), 0n);
  // What the outbox says of an entry counts.
  const distinct = new Map([...timed(loki), ...waiting].map((one) => [`${one.at} ${one.entry.id}`, one]));
  const known = [...distinct.values()].filter(({ entry, at }) => at >= floor && matches(entry));
  const page = known.sort((a, b) => Number(b.at - a.at)).slice(0, limit);
  const entries = page.map(({ entry }) => entry);
  const last = known.length > limit ? page.at(-1) : undefined;
  if (last === undefined && floors.length === 0) return { entries, next: null };
  const end = last?.at ?? floor;
  const passed = waiting.findLast(({ at }) => at >= end);
  return { entries, next: { seq: passed?.entry.seq ?? below, ns: String(end) } };
}
