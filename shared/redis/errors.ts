/** What an error of Redis means for a caller. */
import { Problem } from "../problems.ts";

/** Error replies that say that this Redis cannot serve anybody now: another try may meet a better state. */
const UNAVAILABLE = /^(LOADING|READONLY|MASTERDOWN|MISCONF|NOREPLICAS|OOM|CLUSTERDOWN|TRYAGAIN|BUSY)\b/;

/** A lost connection, a timeout or a Redis that refuses is 503; any other error reply is a mistake of ours. */
export function storeError(error: unknown): unknown {
  const message = error instanceof Error ? error.message : String(error);
  const isReply = error instanceof Error && error.name === "ReplyError";
  // The original error carries the command with all its arguments, which no log may see.
  if (isReply && !UNAVAILABLE.test(message)) return new Error(`Redis: ${message}`);
  return new Problem("store_unavailable", {
    detail: "The operation may have happened nevertheless: look before you repeat it.",
    cause: `Redis: ${message}`,
  });
}

/** A plain command, with its errors as callers may see them. @throws {Problem} store_unavailable */
export const read = <T>(command: Promise<T>): Promise<T> =>
  command.catch((error) => {
    throw storeError(error);
  });
