/** Reading the Lua files. A module of its own because a bundle holds their text instead (`shared/node/dev/bundle.ts`). */
import { readFileSync } from "node:fs";

/** @param name relative to the folder, without the ending */
export const readLua = (name: string): string =>
  readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), "utf8");
