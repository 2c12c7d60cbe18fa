/** Reading script replies: Redis answers strings, and '' where a field has no value. */
import { toTimestamp } from "../formats.ts";

/** A reply that is a flat list of fields. */
export const fieldsOf = (reply: unknown): string[] =>
  (reply as (string | null)[]).map((field) => field ?? "");

/** A reply that is a flat list of names and values. */
export function toRecord(reply: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i + 1 < reply.length; i += 2) record[reply[i] as string] = reply[i + 1] as string;
  return record;
}

export const toTime = (milliseconds: string | undefined): string => toTimestamp(Number(milliseconds));
export const toTimeOrNull = (milliseconds: string | undefined): string | null =>
  milliseconds === undefined || milliseconds === "" ? null : toTime(milliseconds);
