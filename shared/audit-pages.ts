/** Pages of the audit trail over its two homes: the outbox, where entries wait, and Loki, where they end up. */
import type { AuditEntry } from "./audit.ts";

/** Where a page ends: a number for the outbox, and the time of that entry for Loki (nanoseconds, decimal). */
export interface Position {
  readonly seq: number;
  readonly ns: string;
}

/** What one home has to say, newest first. */
export interface Part {
  readonly entries: readonly AuditEntry[];
  /** Set when older entries were not looked at: what lies below is not known. */
  readonly floor?: Position;
}

const CURSOR = /^([1-9]\d{0,14})-(\d{1,19})$/;

export const cursorOf = ({ seq, ns }: Position): string => `${seq}-${ns}`;

/** @returns undefined for a text that no cursor is */
export function positionOf(cursor: string): Position | undefined {
  const [, seq, ns] = CURSOR.exec(cursor) ?? [];
  return seq === undefined || ns === undefined ? undefined : { seq: Number(seq), ns };
}

/**
 * The next page. An entry that is on its way stands in both parts and is taken once. Below the higher of the floors
 * one part may hold entries that the other was not asked for, so the page ends there and the next one goes on.
 */
export function mergePage(
  parts: readonly Part[],
  limit: number,
  nsOf: (entry: AuditEntry) => string,
): { entries: AuditEntry[]; next: Position | null } {
  const floors = parts.flatMap(({ floor }) => floor ?? []);
  const floor = floors.sort((a, b) => b.seq - a.seq)[0];
  const bySeq = new Map(parts.flatMap(({ entries }) => entries).map((entry) => [entry.seq, entry]));
  const known = [...bySeq.values()].filter(({ seq }) => floor === undefined || seq >= floor.seq);
  const entries = known.sort((a, b) => b.seq - a.seq).slice(0, limit);
  const last = entries.at(-1);
  if (known.length > limit && last !== undefined) return { entries, next: { seq: last.seq, ns: nsOf(last) } };
  return { entries, next: floor ?? null };
}
