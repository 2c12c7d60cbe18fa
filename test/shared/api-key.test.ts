import { crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type ApiKey, crc32, hintOf, looksLikeApiKey, newApiKey, parseApiKey } from "../../shared/api-key.ts";
import { keyId } from "../../shared/formats.ts";

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ASCII = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
const TAG_AND_ID = 11 + 16;
const CHECKSUM = 6;

const env = fc.string({
  unit: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz"),
  minLength: 2,
  maxLength: 10,
});
const tag = fc.string({ unit: fc.constantFrom(...BASE62), minLength: 11, maxLength: 11 });
const apiKey = fc.tuple(env, tag).map(([env, tag]) => newApiKey(env, tag));
/** Any string that JavaScript can hold, lone surrogates included. */
const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) }),
);

const secretOf = ({ text }: ApiKey): string =>
  text.slice(text.indexOf("_", 3) + 1 + TAG_AND_ID, -CHECKSUM - 1);
const accepted = (texts: readonly string[]): string[] =>
  texts.filter((text) => parseApiKey(text) !== undefined);
const replaced = (text: string, at: number, by: string): string =>
  text.slice(0, at) + by + text.slice(at + 1);
const swapped = (text: string, a: number, b: number): string =>
  replaced(replaced(text, a, text[b] as string), b, text[a] as string);
const positions = (text: string): number[] => [...text].map((_, index) => index);

test("a new key is read back as the parts it was made of", () => {
  fc.assert(
    fc.property(env, tag, (env, tenantTag) => {
      const key = newApiKey(env, tenantTag);
      expect(parseApiKey(key.text)).toEqual(key);
      expect(key).toMatchObject({ env, tenantTag });
      expect(keyId.safeParse(key.keyId).success).toBe(true);
      expect(key.text.startsWith(`lk_${env}_${tenantTag}${key.keyId.slice("key_".length)}`)).toBe(true);
    }),
  );
});

test("a key of production has 69 characters, and every environment's have its name in front", () => {
  expect(newApiKey("live", "0".repeat(11)).text).toHaveLength(69);
  fc.assert(
    fc.property(apiKey, ({ env, text }) => {
      expect(text).toMatch(new RegExp(`^lk_${env}_[0-9A-Za-z]{54}_[0-9A-Za-z]{6}$`));
    }),
  );
});

test("one double-click selects a whole key: it is one word", () => {
  const words = new Intl.Segmenter("en", { granularity: "word" });
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      expect(text).toMatch(/^\w+$/);
      expect([...words.segment(text)].map(({ segment }) => segment)).toEqual([text]);
    }),
  );
});

test("no key survives the change of a single character", () => {
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      const changes = positions(text).flatMap((at) =>
        ASCII.filter((character) => character !== text[at]).map((character) => replaced(text, at, character)),
      );
      expect(changes).toHaveLength(text.length * 127);
      expect(accepted(changes)).toEqual([]);
    }),
    { numRuns: 15 },
  );
  fc.assert(
    fc.property(
      apiKey,
      fc.nat(),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
      (key, at, other) => {
        const changed = replaced(key.text, at % key.text.length, other);
        fc.pre(changed !== key.text);
        expect(parseApiKey(changed)).toBeUndefined();
      },
    ),
  );
});

test("no key survives a flipped case, of one letter or of all", () => {
  const flip = (letter: string): string =>
    letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase();
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      const flips = positions(text).map((at) => replaced(text, at, flip(text[at] as string)));
      const all = [...flips, text.toUpperCase(), text.toLowerCase(), [...text].map(flip).join("")];
      expect(accepted(all.filter((changed) => changed !== text))).toEqual([]);
    }),
  );
});

test("no key survives being cut short at either end, or losing a character in the middle", () => {
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      const cuts = positions(text).flatMap((at) => [
        text.slice(0, at),
        text.slice(at + 1),
        text.slice(0, at) + text.slice(at + 1),
      ]);
      expect(accepted(cuts)).toEqual([]);
    }),
  );
});

test("no key survives anything put before, into or behind it", () => {
  const addition = fc.oneof(
    anyText,
    fc.constantFrom("\n", "\r\n", " ", "\0", "_", "a", "0", "\u2028", "lk_"),
  );
  fc.assert(
    fc.property(apiKey, fc.nat(), addition, ({ text }, place, added) => {
      fc.pre(added !== "");
      const at = place % (text.length + 1);
      const longer = [added + text, text + added, text.slice(0, at) + added + text.slice(at), text + text];
      expect(accepted(longer)).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test("no key survives two of its characters changing places", () => {
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      const all = positions(text);
      // CRC-32 sees every exchange inside the text it covers; its own six characters have no second guard.
      const covered = text.length - CHECKSUM - 1;
      const inside = all
        .slice(0, covered)
        .flatMap((a) => all.slice(a + 1, covered).map((b) => swapped(text, a, b)));
      const neighbours = all.slice(1).map((b) => swapped(text, b - 1, b));
      const checksum = all.slice(-CHECKSUM);
      const inChecksum = checksum.flatMap((a) => checksum.map((b) => swapped(text, a, b)));
      const changed = [...inside, ...neighbours, ...inChecksum].filter((one) => one !== text);
      expect(changed.length).toBeGreaterThan(1000);
      expect(accepted(changed)).toEqual([]);
    }),
    { numRuns: 30 },
  );
});

test("no key of one environment or tenant becomes a key of another by exchanging the name", () => {
  fc.assert(
    fc.property(apiKey, env, tag, (key, otherEnv, otherTag) => {
      const others = [
        key.text.replace(`lk_${key.env}_`, `lk_${otherEnv}_`),
        key.text.replace(`_${key.tenantTag}`, `_${otherTag}`),
      ];
      expect(accepted(others.filter((text) => text !== key.text))).toEqual([]);
    }),
  );
});

test("any text at all is answered without an exception, and none that was made up passes for a key", () => {
  const lookalike = fc.stringMatching(/^lk_[a-z]{2,10}_[0-9A-Za-z]{54}_[0-9A-Za-z]{6}$/);
  const text = fc.oneof(
    anyText,
    anyText.map((text) => `lk_live_${text}`),
    lookalike,
    fc.constantFrom("", "lk_", "lk__", "lk_live__", "__proto__", "lk_".repeat(100_000)),
  );
  fc.assert(
    fc.property(text, (text) => {
      expect(parseApiKey(text)).toBeUndefined();
      expect(looksLikeApiKey(text)).toBe(text.startsWith("lk_"));
    }),
    { numRuns: 1000 },
  );
});

test("what stays secret beside the hint has more than 128 of at least 160 random bits", () => {
  const { length } = secretOf(newApiKey("live", "0".repeat(11)));
  expect(length * Math.log2(62)).toBeGreaterThanOrEqual(160);
  expect((length - 4) * Math.log2(62)).toBeGreaterThan(128);
});

test("every character of the secret is drawn anew: all 62 show up in every place, and no run of 12 shows up twice", () => {
  // A place misses a character with (61/62)^4000: 1 in 10^28, for all places and characters together 1 in 10^25.
  // Two equal runs of 12 among 64,000: 1 in 10^12.
  const secrets = Array.from({ length: 4000 }, () => secretOf(newApiKey("live", "0".repeat(11))));
  for (const place of positions(secrets[0] as string)) {
    expect(new Set(secrets.map((secret) => secret[place])).size).toBe(62);
  }
  const runs = secrets.flatMap((secret) =>
    positions(secret.slice(11)).map((at) => secret.slice(at, at + 12)),
  );
  expect(new Set(runs).size).toBe(runs.length);
});

test("ids of keys do not repeat either", () => {
  const ids = Array.from({ length: 4000 }, () => newApiKey("live", "0".repeat(11)).keyId);
  expect(new Set(ids).size).toBe(ids.length);
});

test("a hint shows the prefix and the last four characters of the secret, and nothing else", () => {
  fc.assert(
    fc.property(apiKey, (key) => {
      expect(hintOf(key)).toBe(`lk_${key.env}_…${secretOf(key).slice(-4)}`);
      expect(hintOf(parseApiKey(key.text) as ApiKey)).toBe(hintOf(key));
    }),
  );
});

test("crc32 is the checksum of zip and PNG", () => {
  expect(crc32("123456789")).toBe(0xcbf43926);
  expect(crc32("")).toBe(0);
  expect(crc32("a")).toBe(0xe8b7be43);
  expect(crc32("The quick brown fox jumps over the lazy dog")).toBe(0x414fa339);
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii" }), (text) => {
      expect(crc32(text)).toBe(zlibCrc32(text));
    }),
  );
});

test("the checksum is the CRC-32 of everything before it, in base62", () => {
  fc.assert(
    fc.property(apiKey, ({ text }) => {
      const covered = text.slice(0, -CHECKSUM - 1);
      const written = [...text.slice(-CHECKSUM)].reduce((sum, digit) => sum * 62 + BASE62.indexOf(digit), 0);
      expect(written).toBe(zlibCrc32(covered));
    }),
  );
});
