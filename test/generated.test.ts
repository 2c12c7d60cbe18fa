/** What is made from the code is committed as the code makes it today. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { generated } from "../shared/node/dev/generated.ts";

test.each(Object.entries(generated))("%s is current (npm run generate)", async (path, make) => {
  const text = readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
  expect(text).toBe(await make(text));
});
