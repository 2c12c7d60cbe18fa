/** `node write-code-cache.ts <bundle>`: run a bundle, and when it ends store what V8 has compiled of it until then. */
import { writeFileSync } from "node:fs";
import { codeCacheOf, runBundle } from "../program.ts";

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error("Expected a bundle");
const script = runBundle(file);
process.once("exit", () => writeFileSync(codeCacheOf(file), script.createCachedData()));
