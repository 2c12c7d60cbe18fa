/** What an error of Redis means: whether the operation happened, and what its caller is told. */
import { Problem } from "../problems.ts";
import { NotReplicated } from "./replication.ts";

/**
 * - `refused`: nothing happened, and it may go better soon, here or on another server
 * - `impossible`: nothing happened, and waiting a moment will not help
 * - `unknown`: it was sent and not answered
 * - `not_replicated`: it happened on the master, which may be lost with it
 * - `mistake`: of ours
 */
export type Meaning = "refused" | "impossible" | "unknown" | "not_replicated" | "mistake";

/** No answer in time, although it was sent. */
export class Unanswered extends Error {
  override readonly name = "Unanswered";
}

/** There was no connection to send it over. */
export class NotSent extends Error {
  override readonly name = "NotSent";
}

/** A script refuses at its first write, so nothing is half done (Redis 7: scriptVerifyWriteCommandAllow). */
const REFUSED = /^(READONLY|LOADING|MASTERDOWN|NOREPLICAS|TRYAGAIN|MOVED|ASK|CLUSTERDOWN|BUSY)\b/;
const IMPOSSIBLE = /^(OOM|MISCONF|NOAUTH|NOPERM|WRONGPASS)\b/;
/** What ioredis says of a command that it did not send because there was no connection. */
const NOT_SENT = /enableOfflineQueue options is false$/;

export function meaningOf(error: unknown): Meaning {
  if (error instanceof NotReplicated) return "not_replicated";
  if (error instanceof NotSent) return "refused";
  if (!(error instanceof Error)) return "mistake";
  if (error.name !== "ReplyError") return NOT_SENT.test(error.message) ? "refused" : "unknown";
  if (REFUSED.test(error.message)) return "refused";
  return IMPOSSIBLE.test(error.message) ? "impossible" : "mistake";
}

/** @returns what a caller may see. The original error carries the command with all its arguments, which no log may see. */
export function problemFor(meaning: Meaning, error: unknown): Error {
  const cause = `Redis: ${error instanceof Error ? error.message : String(error)}`;
  switch (meaning) {
    case "refused":
    case "impossible":
      return new Problem("store_unavailable", { detail: "Nothing was done.", cause });
    case "unknown":
      return new Problem("outcome_unknown", {
        detail: "The operation may have happened: look before you repeat it.",
        cause,
      });
    case "not_replicated":
      return new Problem("not_replicated", {
        detail: "The operation happened on one server only and may yet be lost: look before you repeat it.",
        cause,
      });
    case "mistake":
      return new Error(cause);
  }
}
