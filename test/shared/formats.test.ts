import fc from "fast-check";
import { expect, test } from "vitest";
import {
  byteLength,
  keyId,
  newId,
  randomBase62,
  tenantId,
  timestamp,
  toBase62,
  toTimestamp,
} from "../../shared/formats.ts";

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) }),
);

test("a tenant id has 1 to 63 lower case letters, digits and hyphens, and begins with none of the hyphens", () => {
  const takes = (id: unknown): boolean => tenantId.safeParse(id).success;
  expect(["a", "0", "a-", "a--b", "9".repeat(63), `a${"-".repeat(62)}`].filter((id) => !takes(id))).toEqual(
    [],
  );
  const wrong = [
    "",
    "-",
    "-a",
    "A",
    "aB",
    "a".repeat(64),
    "a_b",
    "a.b",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "ä",
    "٣",
    "ａ",
    "a/b",
    "..",
    1,
    null,
  ];
  expect(wrong.filter(takes)).toEqual([]);
  fc.assert(
    fc.property(anyText, (text) => {
      const fits =
        text.length >= 1 &&
        text.length <= 63 &&
        [...text].every((c) => BASE62_LOWER.includes(c)) &&
        text[0] !== "-";
      expect(takes(text)).toBe(fits);
    }),
  );
});
const BASE62_LOWER = "0123456789abcdefghijklmnopqrstuvwxyz-";

test("a point in time is written in UTC with exactly three decimals", () => {
  const takes = (text: unknown): boolean => timestamp.safeParse(text).success;
  expect(takes("2026-01-31T12:00:00.000Z")).toBe(true);
  const wrong = [
    "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:00.00Z",
    "2026-01-31T12:00:00.0000Z",
    "2026-01-31T12:00:00.000",
  ];
  wrong.push(
    "2026-01-31T12:00:00.000+00:00",
    "2026-01-31 12:00:00.000Z",
    "2026-02-30T12:00:00.000Z",
    "2026-01-31T24:00:00.000Z",
  );
  wrong.push(
    "2026-13-01T12:00:00.000Z",
    "+010000-01-01T00:00:00.000Z",
    "2026-01-31T12:00:00.000Z\n",
    "",
    "now",
  );
  expect(wrong.filter(takes)).toEqual([]);
});

test("every millisecond of the years 0 to 9999 has a timestamp that leads back to it", () => {
  const first = Date.parse("0000-01-01T00:00:00.000Z");
  const last = Date.parse("9999-12-31T23:59:59.999Z");
  fc.assert(
    fc.property(fc.integer({ min: first, max: last }), (at) => {
      expect(timestamp.safeParse(toTimestamp(at)).success).toBe(true);
      expect(Date.parse(toTimestamp(at))).toBe(at);
    }),
    { examples: [[first], [last], [0], [Date.parse("2024-02-29T23:59:59.999Z")]] },
  );
});

test("the length of a text is that of its UTF-8, three bytes for half of a surrogate pair", () => {
  expect(["", "a", "ä", "€", "😀", "a\u0308", "\ud800"].map(byteLength)).toEqual([0, 1, 2, 3, 4, 3, 3]);
  fc.assert(
    fc.property(anyText, (text) => {
      expect(byteLength(text)).toBe(Buffer.byteLength(text));
    }),
  );
});

test("random text has the length that was asked for and base62 characters only", () => {
  fc.assert(
    fc.property(fc.nat(300), (length) => {
      expect(randomBase62(length)).toMatch(new RegExp(`^[0-9A-Za-z]{${length}}$`));
    }),
  );
});

test("random text holds all 62 characters equally often, without the bias of a plain modulo", () => {
  // chi-square with 61 degrees of freedom exceeds 200 once in 10^14 runs (Chernoff bound); byte % 62 without
  // rejection, which prefers the first eight characters by a quarter, gives about 400 at this size.
  const size = 62_000;
  const counts = new Map([...BASE62].map((character) => [character, 0]));
  for (const character of randomBase62(size)) counts.set(character, (counts.get(character) ?? 0) + 1);
  const expected = size / 62;
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  expect(counts.size).toBe(62);
  expect(chiSquare).toBeLessThan(200);
});

test("random text does not depend on what was drawn before: neighbours are as even as single characters", () => {
  // 15 x 15 classes of neighbouring characters would hide little: 224 degrees of freedom, beyond 500 once in 10^19.
  const text = randomBase62(60_000) + randomBase62(60_000);
  const cells = new Float64Array(225);
  let pairs = 0;
  for (let i = 0; i + 1 < text.length; i += 2) {
    const [one, other] = [BASE62.indexOf(text[i] as string), BASE62.indexOf(text[i + 1] as string)];
    if (one >= 60 || other >= 60) continue;
    const cell = (one % 15) * 15 + (other % 15);
    cells[cell] = (cells[cell] as number) + 1;
    pairs += 1;
  }
  const expected = pairs / 225;
  expect(cells.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)).toBeLessThan(500);
});

test("a number in base62 has a fixed length, can be read back and sorts like the number", () => {
  const number = fc.bigInt({ min: 0n, max: 62n ** 11n - 1n });
  const read = (text: string): bigint =>
    [...text].reduce((sum, digit) => sum * 62n + BigInt(BASE62.indexOf(digit)), 0n);
  fc.assert(
    fc.property(number, number, (one, other) => {
      expect(toBase62(one, 11)).toMatch(/^[0-9A-Za-z]{11}$/);
      expect(read(toBase62(one, 11))).toBe(one);
      expect(toBase62(one, 11) < toBase62(other, 11)).toBe(one < other);
    }),
    {
      examples: [
        [0n, 62n ** 11n - 1n],
        [2n ** 64n - 1n, 2n ** 64n - 2n],
      ],
    },
  );
  expect([toBase62(0n, 6), toBase62(61n, 6), toBase62(62n, 6), toBase62(2n ** 32n - 1n, 6)]).toEqual([
    "000000",
    "00000z",
    "000010",
    "4gfFC3",
  ]);
});

test("the 64 bits of a tenant's tag and the 32 of a checksum always fit", () => {
  expect(2n ** 64n).toBeLessThan(62n ** 11n);
  expect(2n ** 32n).toBeLessThan(62n ** 6n);
});

test("a new id has its prefix and 16 random characters, and does not repeat", () => {
  for (const prefix of ["key", "usr", "evt"] as const) {
    const ids = Array.from({ length: 1000 }, () => newId(prefix));
    expect(ids.filter((id) => !new RegExp(`^${prefix}_[0-9A-Za-z]{16}$`).test(id))).toEqual([]);
    expect(new Set(ids).size).toBe(1000);
  }
});

test("the id of an API key is told from everything else", () => {
  const takes = (id: unknown): boolean => keyId.safeParse(id).success;
  expect(takes(newId("key"))).toBe(true);
  const zeros = "0".repeat(15);
  const wrong = [
    newId("usr"),
    `key_${zeros}`,
    `key_${zeros}00`,
    `key_${zeros}-`,
    `key_${zeros}ä`,
    `KEY_${zeros}0`,
    `key_${zeros}0\n`,
    "",
    null,
  ];
  expect(wrong.filter(takes)).toEqual([]);
  fc.assert(
    fc.property(anyText, (text) => {
      expect(takes(text)).toBe(false);
      expect(takes(`key_${text}`)).toBe(/^[0-9A-Za-z]{16}$/.test(text));
    }),
  );
});
