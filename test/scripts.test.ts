/** The Lua files: each is used, and each says what it takes and what it answers. */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { loadScript, scriptNames } from "../shared/redis/scripts.ts";
import { createHarness } from "./support/harness.ts";

const folder = new URL("../shared/redis/lua/", import.meta.url);
const api = await createHarness();
afterAll(() => api.close());

test("every script has its file, and no other file is among them", () => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".lua"));
  expect(files.map((name) => name.replace(".lua", "")).sort()).toEqual([...scriptNames].sort());
});

test("every library is part of some script", () => {
  const texts = scriptNames.map((name) => loadScript(name).text);
  for (const library of readdirSync(new URL("lib/", folder))) {
    const text = readFileSync(new URL(`lib/${library}`, folder), "utf8");
    expect([library, texts.some((script) => script.includes(text))]).toEqual([library, true]);
  }
});

test.each(scriptNames)(
  "%s: Redis takes it under the name that we compute, and its header says what it answers",
  async (name) => {
    const { text, sha1 } = loadScript(name);
    expect(await api.redis.script("LOAD", text)).toBe(sha1);
    const header = readFileSync(new URL(`${name}.lua`, folder), "utf8").split("\n\n")[0] ?? "";
    expect(header.split("\n").every((line) => line.startsWith("--"))).toBe(true);
    const answersOnlyOk = !header.includes("-- Codes") && !header.includes("-- Reply");
    expect(answersOnlyOk).toBe(false);
  },
);
