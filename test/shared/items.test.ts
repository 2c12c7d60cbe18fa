import fc from "fast-check";
import { expect, test } from "vitest";
import { contentOf, item, itemContent, itemKey, itemLocation } from "../../shared/items.ts";
import { parseJson } from "../../shared/json.ts";
import { Problem } from "../../shared/problems.ts";

const accepts = (key: unknown): boolean => itemKey.safeParse(key).success;
const codes = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, i) => String.fromCharCode(first + i));

/** Controls (C0, DEL, C1) and the two line separators of Unicode. */
const UNPRINTABLE = [...codes(0x00, 0x1f), ...codes(0x7f, 0x9f), "\u2028", "\u2029"];
const isPrintable = (text: string): boolean =>
  text.isWellFormed() && !UNPRINTABLE.some((character) => text.includes(character));

/** Pieces that URLs, file systems, Redis and percent-decoders treat in their own way. */
const piece = fc.constantFrom(
  ..."/ // \\ . .. ../ % %2F %2f %2e %2E%2E %00 %25 %zz ? # : @ & = + ; , * { } [ ] ' < > | ^ ` ~ ! ( )".split(
    " ",
  ),
  ...[" ", '"', "http://", "key", "ä", "a\u0308", "😀", "👩‍👩‍👧", "한"],
  ...["\u00a0", "\u200d", "\ufffd", "\uffff", "\u{10ffff}"],
);
const key = fc
  .oneof(
    fc.string({ unit: "binary", minLength: 1 }),
    fc.array(piece, { minLength: 1 }).map((all) => all.join("")),
  )
  .filter(accepts);

test("a key has 1 to 512 bytes of UTF-8, however many characters that are", () => {
  expect([1, 511, 512].filter((bytes) => !accepts("a".repeat(bytes)))).toEqual([]);
  expect(accepts("")).toBe(false);
  expect(accepts("a".repeat(513))).toBe(false);
  for (const character of ["ä", "€", "😀"]) {
    const bytes = Buffer.byteLength(character);
    const full = Math.floor(512 / bytes);
    const rest = "a".repeat(512 - full * bytes);
    expect(accepts(character.repeat(full) + rest)).toBe(true);
    expect(accepts(`${character.repeat(full)}${rest}a`)).toBe(false);
  }
});

test("any printable text within the bounds is a key, and nothing else is", () => {
  const any = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300, size: "max" }),
    fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) }),
    fc.tuple(fc.string(), fc.constantFrom(...UNPRINTABLE), fc.string()).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(any, (text) => {
      const bytes = Buffer.byteLength(text);
      const fits = bytes >= 1 && bytes <= 512 && isPrintable(text) && text !== "." && text !== "..";
      expect(accepts(text)).toBe(fits);
    }),
    { numRuns: 500 },
  );
  expect([null, undefined, 1, true, ["a"], { a: 1 }].filter(accepts)).toEqual([]);
});

test("no control character, line separator or half of a surrogate pair can stand anywhere in a key", () => {
  const halves = codes(0xd800, 0xdfff);
  const refused = [...UNPRINTABLE, ...halves];
  const around = refused.flatMap((one) => [one, `${one}a`, `a${one}`, `a${one}a`]);
  expect(around.filter(accepts)).toEqual([]);
  expect(accepts("\udc00\ud800")).toBe(false);
});

test("letters, emoji, combining marks and anything a path gives a meaning to can be a key as they are", () => {
  const text = [
    "ä",
    "a\u0308",
    "😀",
    "👩‍👩‍👧",
    "क्षि",
    "שלום",
    "e\u0301\u0301",
    "\u00a0",
    " ",
    "\ufffd",
    "\u{10ffff}",
  ];
  const meant = "/ a/b ..a ... .a %2e %2E%2E %2F %00 {} * ? # __proto__ constructor".split(" ");
  expect([...text, ...meant].filter((one) => itemKey.safeParse(one).data !== one)).toEqual([]);
});

test("`.` and `..` are no keys, because no client could address them", () => {
  expect([".", ".."].filter(accepts)).toEqual([]);
});

test("the location of every key leads back to that key through any URL parser", () => {
  fc.assert(
    fc.property(key, (key) => {
      const location = itemLocation(key);
      const url = new URL(location, "https://latchkey.test");
      expect(url.href).toBe(`https://latchkey.test${location}`);
      const [root, collection, segment = "", ...rest] = url.pathname.split("/");
      expect([root, collection, rest]).toEqual(["", "data", []]);
      expect(decodeURIComponent(segment)).toBe(key);
    }),
    {
      numRuns: 1000,
      examples: [["/"], ["%2e"], ["%2E%2E"], ["a/../b"], ["..\\"], ["//host/x"], ["?"], ["#"]],
    },
  );
});

test("the locations of different keys differ", () => {
  fc.assert(
    fc.property(key, key, (one, other) => {
      expect(itemLocation(one) === itemLocation(other)).toBe(one === other);
    }),
  );
  expect(itemLocation("ä")).not.toBe(itemLocation("a\u0308"));
});

test("a ttl is a whole number of seconds from one to ten years", () => {
  const takes = (ttl: unknown): boolean => itemContent.safeParse({ value: 1, ttl }).success;
  expect([1, 2, 315_359_999, 315_360_000].filter((ttl) => !takes(ttl))).toEqual([]);
  expect([0, -1, 315_360_001, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53].filter(takes)).toEqual([]);
  expect(["60", null, true, [60]].filter(takes)).toEqual([]);
  expect(itemContent.parse({ value: 1 }).ttl).toBeUndefined();
});

test("a value is required and can be any JSON", () => {
  const takes = (body: unknown): boolean => itemContent.safeParse(body).success;
  expect([null, false, 0, "", [], {}].filter((value) => !takes({ value }))).toEqual([]);
  expect([{}, { value: undefined }, { metadata: {}, ttl: 1 }].filter(takes)).toEqual([]);
});

test("metadata is an object of at most 16 KiB of JSON, empty when it is not given", () => {
  const takes = (metadata: unknown): boolean => itemContent.safeParse({ value: 1, metadata }).success;
  const ofBytes = (bytes: number, filler = "a") => {
    const rest = bytes - Buffer.byteLength('{"a":""}');
    const full = Math.floor(rest / Buffer.byteLength(filler));
    return { a: filler.repeat(full) + "b".repeat(rest - full * Buffer.byteLength(filler)) };
  };
  for (const filler of ["a", "ä", "😀"]) {
    expect(Buffer.byteLength(JSON.stringify(ofBytes(16_384, filler)))).toBe(16_384);
    expect([takes(ofBytes(16_383, filler)), takes(ofBytes(16_384, filler))]).toEqual([true, true]);
    expect(takes(ofBytes(16_385, filler))).toBe(false);
  }
  expect([[], null, "a", 1, true].filter(takes)).toEqual([]);
  expect(itemContent.parse({ value: 1 }).metadata).toEqual({});
});

test("two items without metadata share no object", () => {
  const first = itemContent.parse({ value: 1 });
  first.metadata["leak"] = true;
  expect(itemContent.parse({ value: 1 }).metadata).toEqual({});
});

test("a field that is not known is refused, also one called __proto__", () => {
  const bodies = [
    '{"value":1,"valeu":2}',
    '{"value":1,"__proto__":{"ttl":1}}',
    '{"value":1,"key":"x"}',
    "[]",
  ];
  expect(bodies.filter((text) => itemContent.safeParse(JSON.parse(text)).success)).toEqual([]);
});

test("what is stored is the JSON of exactly what was sent, names like __proto__ included", () => {
  const text = '{"value":{"__proto__":{"a":1},"toJSON":"x"},"metadata":{"__proto__":2,"constructor":[]}}';
  const content = contentOf(itemContent.parse(parseJson(text)), 1000);
  expect(content.value).toBe('{"__proto__":{"a":1},"toJSON":"x"}');
  expect(content.metadata).toBe('{"__proto__":2,"constructor":[]}');
  fc.assert(
    fc.property(fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue()), (value, metadata) => {
      const json = { value: JSON.stringify(value), metadata: JSON.stringify(metadata) };
      expect(contentOf(itemContent.parse({ value, metadata }), 1e6)).toEqual({ ...json, ttl: null });
      expect(contentOf(itemContent.parse({ value, ttl: 60, metadata }), 1e6)).toEqual({ ...json, ttl: 60 });
    }),
  );
});

test("a value of exactly the allowed bytes of JSON is stored, one byte more is 413", () => {
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.string({ unit: "binary" })), (value) => {
      const body = itemContent.parse({ value });
      const bytes = Buffer.byteLength(JSON.stringify(value));
      expect(contentOf(body, bytes).value).toBe(JSON.stringify(value));
      expect(problemOf(() => contentOf(body, bytes - 1))).toMatchObject({ status: 413 });
    }),
    { examples: [["ä"], ["😀"], ["\ud800"], ["\u2028"]] },
  );
});

test("an answered item holds its own fields and no other", () => {
  const at = "2026-01-31T12:00:00.000Z";
  const times = { expires_at: null, created_at: at, updated_at: at };
  const stored = { key: "a", value: { b: [1] }, metadata: {}, ttl: null, version: 1, ...times };
  expect(item.parse({ ...stored, tenant_id: "t", revision: "7", secret: "s" })).toEqual(stored);
  expect([0, -1, 1.5, "1"].filter((version) => item.safeParse({ ...stored, version }).success)).toEqual([]);
});

function problemOf(job: () => unknown): Problem {
  try {
    job();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  throw new Error("no problem");
}
