/** What a command of `admin.ts` is made of. */
import type { z } from "zod";
import type { Store } from "../../redis/store.ts";

interface Surroundings {
  readonly store: Store;
  /** The variable K_SINK, as it is set. */
  readonly sink: string | undefined;
}

export interface Command {
  /** Arguments, as the usage shows them. */
  readonly takes: string;
  /** @returns what carries it out and yields the lines that it says; undefined when the arguments make no sense */
  parse(args: readonly string[]): ((surroundings: Surroundings) => AsyncGenerator<string>) | undefined;
}

/** Why a command was not carried out, for who typed it. */
export class Refusal extends Error {}

export const command = <Schema extends z.ZodType>(
  takes: string,
  schema: Schema,
  run: (args: z.infer<Schema>, surroundings: Surroundings) => AsyncGenerator<string>,
): Command => ({
  takes,
  parse(args) {
    const { data } = schema.safeParse(args);
    return data === undefined ? undefined : (surroundings) => run(data, surroundings);
  },
});
