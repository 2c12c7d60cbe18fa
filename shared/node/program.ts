/**
 * Running a bundle with what V8 has compiled of it before. V8 compiles most functions when they are called first, and Node's
 * own compile cache (NODE_COMPILE_CACHE) is taken before that: 1,200 were compiled at each start. This one is taken after a
 * first answer (`shared/node/dev/fill-code-cache.ts`): a fifth of a start.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Script } from "node:vm";

/** A bundle is an expression, so that V8 has all of it in one script: a function of `require`. */
export const BUNDLE_HEAD = "(function (require) {";
export const BUNDLE_TAIL = "})";

/** Where the compiled code of a bundle is. */
export const codeCacheOf = (file: string): string => `${file}.cache`;

/** Without compiled code, or with some of another V8, it is compiled as any other file. */
export function runBundle(file: string): Script {
  const cache = codeCacheOf(file);
  const script = new Script(readFileSync(file, "utf8"), {
    filename: file,
    ...(existsSync(cache) ? { cachedData: readFileSync(cache) } : {}),
  });
  script.runInThisContext()(createRequire(file));
  return script;
}
