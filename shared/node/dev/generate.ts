/** `npm run generate`: bring everything that is made from the code up to date. A test proves that it is. */
import { readFileSync, writeFileSync } from "node:fs";
import { withGeneratedParts } from "./readme.ts";

const readme = new URL("../../../README.md", import.meta.url);
writeFileSync(readme, withGeneratedParts(readFileSync(readme, "utf8")));
