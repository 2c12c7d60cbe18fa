/** `npm run generate`: bring everything that is made from the code up to date. A test proves that it is. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { generated } from "./generated.ts";

for (const [path, make] of Object.entries(generated)) {
  const file = new URL(`../../../${path}`, import.meta.url);
  writeFileSync(file, await make(existsSync(file) ? readFileSync(file, "utf8") : ""));
}
