import fc from "fast-check";
import { expect, test } from "vitest";
import * as z from "zod";
import { nextLink, pageOf, pageQuery } from "../../shared/pages.ts";

const anyText = fc.string({ unit: "binary" });
const path = fc.constantFrom("/api-keys", "/audit");

test("a page has 1 to 100 elements, 50 when nothing is said", () => {
  expect(pageQuery.parse({})).toEqual({ limit: 50 });
  fc.assert(
    fc.property(fc.integer({ min: -10, max: 2000 }), (limit) => {
      const parsed = pageQuery.safeParse({ limit: String(limit) });
      expect(parsed.success).toBe(limit >= 1 && limit <= 100);
      if (parsed.success) expect(parsed.data.limit).toBe(limit);
    }),
    { examples: [[0], [1], [100], [101], [999], [1000]] },
  );
});

test("a limit is plain digits and nothing that a number parser would let pass", () => {
  const wrong = [
    "",
    " ",
    "01",
    "+1",
    "-1",
    "1.0",
    "1e1",
    "0x1",
    " 1",
    "1 ",
    "1\n",
    "٣",
    "１",
    "1,0",
    "Infinity",
    "NaN",
  ];
  expect(wrong.filter((limit) => pageQuery.safeParse({ limit }).success)).toEqual([]);
  expect([1, null, ["1"], true].filter((limit) => pageQuery.safeParse({ limit }).success)).toEqual([]);
});

test("a cursor is a sequence number from 1 to fifteen nines, which a double holds exactly", () => {
  const takes = (cursor: unknown): boolean => pageQuery.safeParse({ cursor }).success;
  expect(["1", "10", "9".repeat(15)].filter((cursor) => !takes(cursor))).toEqual([]);
  expect(Number.isSafeInteger(Number("9".repeat(15)))).toBe(true);
  const wrong = [
    "0",
    "",
    "01",
    `1${"0".repeat(15)}`,
    "-1",
    "+1",
    "1-0",
    "(1",
    "+",
    "-",
    "+inf",
    "$",
    "1 ",
    "1\n",
    "x",
    1,
    null,
  ];
  expect(wrong.filter(takes)).toEqual([]);
  fc.assert(
    fc.property(fc.oneof(anyText, fc.bigInt({ min: -5n, max: 10n ** 17n }).map(String)), (text) => {
      expect(takes(text)).toBe(/^[1-9][0-9]*$/.test(text) && BigInt(text) < 10n ** 15n);
    }),
  );
});

test("a parameter that is not known is refused", () => {
  expect(pageQuery.safeParse({ limit: "1", cursor: "1" }).success).toBe(true);
  expect(
    [{ Limit: "1" }, { offset: "1" }, { page: "1" }].filter((query) => pageQuery.safeParse(query).success),
  ).toEqual([]);
});

test("the last page has no Link header", () => {
  expect(nextLink("/audit", { limit: 50 }, null)).toEqual({});
});

test("the Link of a page leads to the next one and keeps every parameter that was given", () => {
  const query = fc.dictionary(
    fc.oneof(fc.constantFrom("limit", "cursor", "action", "key", "a b", "&"), anyText),
    fc.option(anyText, { nil: undefined }),
  );
  fc.assert(
    fc.property(path, query, fc.integer({ min: 1 }).map(String), (path, query, next) => {
      const { Link = "" } = nextLink(path, query, next);
      const [, target = ""] = /^<([^<>\s]+)>; rel="next"$/.exec(Link) ?? [];
      const url = new URL(target, "https://latchkey.test");
      expect(url.pathname).toBe(path);
      expect(url.hash).toBe("");
      const given = Object.entries({ ...query, cursor: next }).filter(([, value]) => value !== undefined);
      expect(new Map(url.searchParams)).toEqual(new Map(given as [string, string][]));
    }),
    { numRuns: 500 },
  );
});

test("no parameter can break out of the Link header", () => {
  const hostile = fc.oneof(
    anyText,
    fc.constantFrom('>; rel="x", <http://evil>', "\r\nSet-Cookie: a=b", "\0", "\u2028", '"', "\ud800"),
  );
  fc.assert(
    fc.property(hostile, hostile, (name, value) => {
      const headers = new Headers(nextLink("/audit", { [name]: value }, "7"));
      expect([...headers.keys()]).toEqual(["link"]);
      expect(headers.get("link")).toMatch(/^<\/audit\?[\x21\x23-\x3b\x3d\x3f-\x7e]+>; rel="next"$/);
    }),
  );
});

test("the query of the next page is accepted as the query of a request", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 1, max: 999_999_999_999_999 }),
      (limit, next) => {
        const { Link = "" } = nextLink("/api-keys", { limit, cursor: undefined }, String(next));
        const url = new URL(Link.slice(1, Link.indexOf(">")), "https://latchkey.test");
        expect(pageQuery.parse(Object.fromEntries(url.searchParams))).toEqual({
          limit,
          cursor: String(next),
        });
      },
    ),
  );
});

test("a page is its data and a cursor that is null on the last, with nothing of an element but its named fields", () => {
  const page = pageOf(z.object({ id: z.string() }));
  const answer = { data: [{ id: "a", hash: "x" }], next_cursor: null, total: 1 };
  expect(page.parse(answer)).toEqual({ data: [{ id: "a" }], next_cursor: null });
  expect(page.parse({ data: [], next_cursor: "7" })).toEqual({ data: [], next_cursor: "7" });
  expect(page.safeParse({ data: [] }).success).toBe(false);
});
