/** Reading script replies: Redis answers strings, and '' where a field has no value. */
import { toTimestamp } from "../formats.ts";

/** A reply that is a flat list of fields. */
export const fieldsOf = (reply: unknown): string[] =>
  (reply as (string | null)[]).map((field) => field ?? "");

export const toTime = (milliseconds: string | undefined): string => toTimestamp(Number(milliseconds));
export const toTimeOrNull = (milliseconds: string | undefined): string | null =>
  milliseconds === undefined || milliseconds === "" ? null : toTime(milliseconds);
