import fc from "fast-check";
import { expect, test } from "vitest";
import { type EntityTags, entityTags, etagOf, namesRevision, strongRevisions } from "../../shared/etag.ts";

interface Tag {
  readonly weak: boolean;
  readonly opaque: string;
}

/** RFC 9110, 8.8.3: any visible ASCII character but the quote, commas and slashes included. */
const etagc = fc
  .integer({ min: 0x21, max: 0x7e })
  .filter((code) => code !== 0x22)
  .map((code) => String.fromCharCode(code));
/** Few, so that properties meet the same one twice. */
const revision = fc.integer({ min: 1, max: 12 }).map(String);
const foreign = fc.oneof(
  fc.string({ unit: etagc, maxLength: 12 }),
  fc.constantFrom("", ",", "a,b", "*", "W/", "abc-gzip"),
);
/** A tag that was made of revisions to look like one, or several, of ours. */
const lookalike = fc.oneof(
  fc.tuple(revision, revision).map(([one, other]) => `${one},${other}`),
  revision.map((one) => `,${one},`),
  revision.map((one) => `W/${one}`),
  revision.map((one) => `x,W/${one}`),
);
const plainTag = fc.record({
  weak: fc.boolean(),
  opaque: fc.oneof(revision, fc.stringMatching(/^[\w-]{0,12}$/)),
});
const anyTag = fc.record({ weak: fc.boolean(), opaque: fc.oneof(revision, foreign, lookalike) });
const separator = fc.constantFrom(",", ", ", " ,", " , ", "\t,\t", ",  ");

const written = ({ weak, opaque }: Tag): string => `${weak ? "W/" : ""}"${opaque}"`;
const read = (header: string): EntityTags => entityTags.parse(header);
const accepts = (header: unknown): boolean => entityTags.safeParse(header).success;

/** Whether `If-Match` lets a change of this revision pass: redis/items.ts joins what is left, update-item.lua searches it. */
function satisfiesIfMatch(tags: EntityTags, current: string): boolean {
  const revisions = strongRevisions(tags);
  return revisions === "*" || `,${revisions.join(",")},`.includes(`,${current},`);
}

test("the tag of a revision is strong, and names that revision and no other", () => {
  expect(etagOf("17")).toBe('"17"');
  fc.assert(
    fc.property(revision, revision, (one, other) => {
      const tags = read(etagOf(one));
      expect(namesRevision(tags, other)).toBe(one === other);
      expect(satisfiesIfMatch(tags, other)).toBe(one === other);
    }),
  );
});

test("a star stands for every revision, with blanks around it or not, and never inside a list", () => {
  for (const star of ["*", " *", "* ", "\t* "]) {
    expect(namesRevision(read(star), "1")).toBe(true);
    expect(satisfiesIfMatch(read(star), "1")).toBe(true);
  }
  expect(['*, "a"', '"a", *', "**", "*,*", "W/*"].filter(accepts)).toEqual([]);
  expect(namesRevision(read('"*"'), "1")).toBe(false);
  expect(satisfiesIfMatch(read('"*"'), "1")).toBe(false);
});

test("a header that was not sent names no revision", () => {
  expect(namesRevision(undefined, "1")).toBe(false);
});

test.each([
  ["a list satisfies If-None-Match by weak and If-Match by strong comparison", plainTag, 32],
  ["no tag that a client could have from anywhere else is taken for a revision", anyTag, 6],
])("%s", (_, tag, maxLength) => {
  fc.assert(
    fc.property(fc.array(tag, { minLength: 1, maxLength }), separator, revision, (tags, between, current) => {
      const parsed = read(tags.map(written).join(between));
      expect(namesRevision(parsed, current)).toBe(tags.some(({ opaque }) => opaque === current));
      expect(satisfiesIfMatch(parsed, current)).toBe(
        tags.some(({ weak, opaque }) => !weak && opaque === current),
      );
    }),
    { numRuns: 500 },
  );
});

test("a weak tag never satisfies If-Match, and does satisfy If-None-Match", () => {
  const parsed = read('W/"7"');
  expect(satisfiesIfMatch(parsed, "7")).toBe(false);
  expect(namesRevision(parsed, "7")).toBe(true);
});

test("a comma inside a tag does not make two tags of it", () => {
  // RFC 9110, 8.8.3: etagc holds the comma, so `"5,6"` is one tag, which names neither revision 5 nor 6.
  expect(satisfiesIfMatch(read('"5,6"'), "5")).toBe(false);
  expect(namesRevision(read('"5,6"'), "6")).toBe(false);
  expect(satisfiesIfMatch(read('W/"a,5"'), "5")).toBe(false);
});

test("a strong tag that only looks weak inside its quotes names no revision", () => {
  expect(namesRevision(read('"W/5"'), "5")).toBe(false);
  expect(satisfiesIfMatch(read('"W/5"'), "5")).toBe(false);
});

test("a header holds 1 to 32 tags and at most 4096 characters", () => {
  const list = (length: number): string => Array.from({ length }, (_, i) => `"${i}"`).join(",");
  expect([list(1), list(31), list(32)].filter((header) => !accepts(header))).toEqual([]);
  expect([list(0), list(33), list(400)].filter(accepts)).toEqual([]);
  expect(accepts(`"${"a".repeat(4094)}"`)).toBe(true);
  expect(accepts(`"${"a".repeat(4095)}"`)).toBe(false);
});

test("what is no list of entity tags is refused", () => {
  const wrong = [
    "",
    " ",
    "a",
    "7",
    "'a'",
    '"a',
    'a"',
    '"',
    '"""',
    '"a" "b"',
    '"a";"b"',
    'w/"a"',
    'W"a"',
    'W/ "a"',
    "W/",
    "W/a",
  ];
  wrong.push(
    '"a b"',
    '"a\tb"',
    '"a\n"',
    '"a\0"',
    '"a\u007f"',
    '"😀"',
    '"\ud800"',
    '"\u2028"',
    '-"a"',
    '"a"x',
    "null",
  );
  expect(wrong.filter(accepts)).toEqual([]);
  expect([undefined, null, 7, ['"a"'], {}].filter(accepts)).toEqual([]);
});

test("any header at all is either refused or read, without another exception", () => {
  const header = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom(...'"",*W/ab1 \t\\') }),
  );
  fc.assert(
    fc.property(header, (text) => {
      const { success, data } = entityTags.safeParse(text);
      expect(success).toBe(data !== undefined);
      if (data !== undefined) expect(data === "*" || (data.length >= 1 && data.length <= 32)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test("the longest hostile header is refused without backtracking through it again and again", () => {
  // 4096 characters that fail at the very end; exponential or cubic matching would run into the test's time limit.
  for (const part of ['"a",', '"a" ,\t', 'W/"",', '" ', "W/", '"', ","]) {
    const header = `${part.repeat(4096)}`.slice(0, 4094);
    for (let run = 0; run < 50; run += 1) expect(accepts(`${header}"x`)).toBe(false);
  }
});
