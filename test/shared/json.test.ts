import fc from "fast-check";
import { expect, test } from "vitest";
import { JsonError, parseJson } from "../../shared/json.ts";

const LARGEST = 2n ** 53n - 1n;

/** Any string that JavaScript can hold, lone surrogates included. */
const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) }),
);
/** A JSON text that holds the one it is given, in every place where a value can stand. */
const around = fc.constantFrom<(text: string) => string>(
  (text) => text,
  (text) => ` \n\t${text}\r\n`,
  (text) => `[${text}]`,
  (text) => `[0,[1,${text}],"x"]`,
  (text) => `{"a":${text}}`,
  (text) => `{"a":{"":[{"b" : ${text} }]},"c":null}`,
  (text) => `{"__proto__":${text}}`,
);

/** The integer that a number as JSON.stringify writes it stands for, in all its digits: `1.5e+21` too. */
function integerOf(text: string): bigint | undefined {
  const [, whole, fraction = "", exponent = "0"] = /^(-?\d+)(?:\.(\d+))?(?:e\+(\d+))?$/.exec(text) ?? [];
  if (whole === undefined || fraction.length > Number(exponent)) return undefined;
  return BigInt(whole + fraction) * 10n ** BigInt(Number(exponent) - fraction.length);
}
/** Whether an integer is the same one after a double has held it. */
const comesBack = (n: bigint): boolean => integerOf(String(Number(n))) === n;
const notation = fc.constantFrom<(n: bigint) => string>(
  String,
  (n) => `${n}.0`,
  (n) => `${n}.00e-0`,
  (n) => `${n}E0`,
  (n) => `${n === 0n ? "" : n}0e-1`,
  (n) => `${String(n).slice(0, -1) || "0"}.${String(n).slice(-1)}e+1`.replace("-.", "-0."),
);

const refusal = (text: string): string => {
  try {
    parseJson(text);
  } catch (error) {
    expect(error).toBeInstanceOf(JsonError);
    return (error as JsonError).message;
  }
  return "accepted";
};
const OTHER_NUMBER = "A number cannot be kept as it is written; send it as a string.";
const TOO_DEEP = "The JSON is nested deeper than 64 levels.";
const NOT_JSON = "The body is not valid JSON.";

test("every JSON document comes back as it was sent", () => {
  const text = fc.oneof(
    fc.json(),
    fc.jsonValue().map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(text, (text) => {
      expect(JSON.stringify(parseJson(text))).toBe(text);
    }),
    { numRuns: 1000 },
  );
});

test("every string comes back as it was sent, with any character in its value or in its name", () => {
  fc.assert(
    fc.property(anyText, anyText, (name, value) => {
      const parsed = parseJson(`{${JSON.stringify(name)}:[${JSON.stringify(value)}]}`) as Record<
        string,
        unknown
      >;
      expect(Object.entries(parsed)).toEqual([[name, [value]]]);
    }),
  );
});

test("nesting is accepted up to 64 levels and refused beyond, in lists, objects and any mix", () => {
  const level = fc.constantFrom(["[", "]"], ["[1,", ',"x"]'], ['{"a":', "}"], ['{"b":null,"":', ',"c":2}']);
  fc.assert(
    fc.property(fc.array(level, { minLength: 1, maxLength: 130, size: "max" }), (levels) => {
      const text = `${levels.map(([open]) => open).join("")}0${levels
        .map(([, close]) => close)
        .reverse()
        .join("")}`;
      expect(refusal(text)).toBe(levels.length <= 64 ? "accepted" : TOO_DEEP);
    }),
  );
  const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);
  expect([1, 63, 64].map((levels) => refusal(nested(levels)))).toEqual(["accepted", "accepted", "accepted"]);
  expect(refusal(nested(65))).toBe(TOO_DEEP);
});

test("a hundred thousand levels are refused like 65 are", () => {
  const levels = 100_000;
  expect([TOO_DEEP, NOT_JSON]).toContain(refusal("[".repeat(levels) + "]".repeat(levels)));
  expect([TOO_DEEP, NOT_JSON]).toContain(refusal(`${'{"a":'.repeat(levels)}0${"}".repeat(levels)}`));
  expect(refusal("[".repeat(levels))).toBe(NOT_JSON);
});

test("an integer is accepted exactly when it comes back as the same one, in any notation and anywhere", () => {
  const nearBound = fc
    .bigInt({ min: -5n, max: 5n })
    .chain((near) => fc.constantFrom(LARGEST + near, -LARGEST - near));
  const long = fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n });
  fc.assert(
    fc.property(fc.oneof(nearBound, long, fc.bigInt()), notation, around, (n, write, place) => {
      expect(refusal(place(write(n)))).toBe(comesBack(n) ? "accepted" : OTHER_NUMBER);
      if (comesBack(n)) expect(parseJson(`[${write(n)}]`)).toEqual([Number(n) + 0]);
    }),
    { numRuns: 2000, examples: [[9_007_199_254_740_993n, (n) => `${n}.0`, (text) => text]] },
  );
});

test("every integer up to 2^53-1 is accepted, and the first that a double does not hold is refused", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -LARGEST, max: LARGEST }), notation, around, (n, write, place) => {
      expect(refusal(place(write(n)))).toBe("accepted");
    }),
  );
  expect([LARGEST, -LARGEST, 0n].map((n) => refusal(String(n)))).toEqual(Array(3).fill("accepted"));
  const beyond = [LARGEST + 2n, -LARGEST - 2n, 12_345_678_901_234_567_890n];
  expect(beyond.map((n) => refusal(String(n)))).toEqual(Array(3).fill(OTHER_NUMBER));
});

test("a number beyond the range of doubles is refused, wherever it stands, and one too small to be told from 0", () => {
  const many = fc.integer({ min: 330, max: 5000 });
  const known = "1e999 -1e999 1E+400 1.5e309 0.1e310 1e99999999999 1.7976931348623159e308 1e-999 -1e-400";
  const infinite = fc.oneof(
    fc.constantFrom(...known.split(" ")),
    many.chain((n) => fc.constantFrom(`1e${n}`, `1${"0".repeat(n)}`, `-1.25E-${n}`, `0.${"0".repeat(n)}1`)),
  );
  fc.assert(
    fc.property(infinite, around, (number, place) => {
      expect(refusal(place(number))).toBe(OTHER_NUMBER);
    }),
  );
  expect(["0", "-0", "0.0", "0e999", "-0.0E-999", `0.${"0".repeat(400)}`].map(refusal)).toEqual(
    Array(6).fill("accepted"),
  );
});

test("fractions and large numbers in exponent form are accepted and come back the same", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), around, (number, place) => {
      const text = place(String(number));
      expect(JSON.stringify(parseJson(text))).toBe(JSON.stringify(JSON.parse(text)));
    }),
    { examples: [1e23, 6.022_140_76e23, 5e-324, -1.5e-7].map((n) => [n, (text) => text]) },
  );
});

/** Linear work takes milliseconds; what looks at every digit once for every digit needs many seconds for these. */
test("numbers of 100,000 digits are refused or taken without going through them again and again", () => {
  const zeros = "0".repeat(100_000);
  for (const long of [`1${zeros}1`, `${zeros.replaceAll("0", "10")}1`])
    expect(refusal(long)).toBe(OTHER_NUMBER);
  for (const long of [`1.${zeros}1`, `[0.${zeros}]`, `1.${zeros}e1`]) expect(refusal(long)).toBe("accepted");
  expect(refusal(`0.${zeros}1${zeros}`)).toBe(OTHER_NUMBER);
}, 5_000);

test("inside a string, or as a name, digits and exponents of any size are only text", () => {
  const digits = fc.stringMatching(/^-?\d{16,60}(\.\d+)?([eE]\d{1,9})?$/);
  const text = fc.oneof(
    fc.constantFrom(
      "12345678901234567890",
      "1e999",
      "-1e999",
      '"12345678901234567890',
      '\\",1e999,"',
      "[1e999]",
    ),
    digits,
    digits.map((number) => `":${number},"`),
  );
  fc.assert(
    fc.property(text, around, (text, place) => {
      const written = JSON.stringify(text);
      expect(refusal(place(written))).toBe("accepted");
      expect(refusal(place(`{${written}:1e3}`))).toBe("accepted");
      expect(parseJson(written)).toBe(text);
      expect(refusal(place(`[${written},1e999]`))).toBe(OTHER_NUMBER);
    }),
  );
});

test("a member called __proto__ is a member like any other, and changes no prototype", () => {
  for (const text of ['{"__proto__":{"admin":true},"a":1}', '{"__proto__":{"admin":true},"a":1e3}']) {
    const parsed = parseJson(text) as Record<string, unknown>;
    expect(Object.keys(parsed)).toEqual(["__proto__", "a"]);
    expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
    expect(parsed["admin"]).toBeUndefined();
    expect(JSON.parse(JSON.stringify(parsed))).toStrictEqual(JSON.parse(text));
  }
  expect(JSON.stringify(parseJson('{"constructor":{"prototype":{"x":1}}}'))).toBe(
    '{"constructor":{"prototype":{"x":1}}}',
  );
  expect("admin" in {}).toBe(false);
});

test("whatever the text, the only error is a JsonError, and it repeats nothing of the text", () => {
  const sentences = [NOT_JSON, TOO_DEEP, OTHER_NUMBER, "accepted"];
  const broken = fc
    .tuple(fc.json(), fc.nat(), fc.nat(5), anyText)
    .map(
      ([text, at, cut, added]) =>
        text.slice(0, at % (text.length + 1)) + added + text.slice((at % (text.length + 1)) + cut),
    );
  fc.assert(
    fc.property(
      fc.oneof(anyText, broken, fc.string({ unit: fc.constantFrom(...'[]{}",:0123456789eE+-.') })),
      (text) => {
        expect(sentences).toContain(refusal(text));
      },
    ),
    { numRuns: 2000 },
  );
});

test("what is not JSON is refused", () => {
  const wrong = [
    "",
    " ",
    "undefined",
    "NaN",
    "Infinity",
    "0x10",
    "01",
    "1.",
    ".5",
    "+1",
    "'a'",
    "{a:1}",
    "[1,]",
    "1 2",
  ];
  wrong.push('{"a":1,}', '"\n"', '"\\x"', "\ufeff1", "null,", "// x\n1", '"\\u12"', "\u00a01");
  expect(wrong.filter((text) => refusal(text) !== NOT_JSON)).toEqual([]);
});
