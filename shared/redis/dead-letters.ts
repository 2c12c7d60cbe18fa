/** Dead letters: one stream, whose ids are the times at which they came. */
import { type DeadLetter, reasonOf } from "../dead-letter.ts";
import { DEAD_LETTERS_KEY } from "./keys.ts";
import { toRecord, toTime } from "./replies.ts";
import type { Store } from "./store.ts";

/**
 * Kept at most; the oldest go first. At the largest, with a body of 256 KiB in base64 and 16 KiB of attributes each, they
 * take 3.7 GB, at their usual few KiB some 30 MB: the gauge of them is to be watched.
 */
const MAX_LETTERS = 10_000;
/** Letters that are read at a time. */
const PAGE = 10;

export interface KeptLetter extends DeadLetter {
  readonly id: string;
  readonly at: string;
}

/** @param limit for tests */
export function createDeadLetters({ run, ask }: Store, limit: number = MAX_LETTERS) {
  return {
    /** @returns how many older ones had to go */
    async keep(letter: DeadLetter): Promise<number> {
      const { attributes, contentType, body, encoding, bytes, cut } = letter;
      const fields = {
        ...{ reason: JSON.stringify(reasonOf(letter)), attributes: JSON.stringify(attributes) },
        ...{ content_type: contentType, encoding, bytes: String(bytes), cut: cut ? "1" : "", body },
      };
      return Number(
        await run("keep-dead-letter", [DEAD_LETTERS_KEY], [String(limit), ...Object.entries(fields).flat()]),
      );
    },

    count: (): Promise<number> => ask((redis) => redis.xlen(DEAD_LETTERS_KEY)),

    async find(id: string): Promise<KeptLetter | undefined> {
      const [row] = await ask((redis) => redis.xrange(DEAD_LETTERS_KEY, id, id));
      return row === undefined ? undefined : decode(row);
    },

    /** @returns whether it was there */
    remove: async (id: string): Promise<boolean> =>
      (await ask((redis) => redis.xdel(DEAD_LETTERS_KEY, id))) === 1,

    /** The newest first. */
    async *newest(count: number): AsyncGenerator<KeptLetter> {
      let before = "+";
      for (let left = count; left > 0; left -= PAGE) {
        const wanted = Math.min(PAGE, left);
        const rows = await ask((redis) => redis.xrevrange(DEAD_LETTERS_KEY, before, "-", "COUNT", wanted));
        for (const row of rows) {
          yield decode(row);
          before = `(${row[0]}`;
        }
        if (rows.length < wanted) return;
      }
    },
  };
}

function decode([id, fields]: [id: string, fields: string[]]): KeptLetter {
  const record = toRecord(fields);
  return {
    id,
    at: toTime(id.split("-")[0]),
    attributes: JSON.parse(record["attributes"] ?? "{}"),
    contentType: record["content_type"] ?? "",
    body: record["body"] ?? "",
    encoding: record["encoding"] === "base64" ? "base64" : "utf-8",
    bytes: Number(record["bytes"]),
    cut: record["cut"] === "1",
  };
}
