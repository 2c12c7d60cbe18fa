import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { apiKeySettings, apiKeyView, createdApiKey } from "../../shared/api-keys.ts";
import { timestamp, toTimestamp } from "../../shared/formats.ts";
import { keyScopes } from "../../shared/permissions.ts";

const NOW = Date.parse("2026-01-31T12:00:00.000Z");
const codes = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, i) => String.fromCharCode(first + i));

/** Controls (C0, DEL, C1) and the two line separators of Unicode. */
const CONTROLS = [...codes(0x00, 0x1f), ...codes(0x7f, 0x9f), "\u2028", "\u2029"];

const accepts = (settings: object): boolean => apiKeySettings.safeParse({ name: "a", ...settings }).success;
const acceptsName = (name: unknown): boolean => accepts({ name });
const acceptsExpiry = (expires_at: unknown): boolean => accepts({ expires_at });

const view = {
  key_id: "key_0123456789abcdef",
  name: "ci",
  prefix: "lk_live_",
  hint: "lk_live_…wxyz",
  scopes: ["data:read"],
  enabled: true,
  created_at: "2026-01-31T12:00:00.000Z",
  created_by: "ada",
  last_used: null,
  expires_at: null,
};

afterEach(() => vi.useRealTimers());

test("a key that only has a name reads and writes data, is enabled and never expires", () => {
  expect(apiKeySettings.parse({ name: "ci" })).toEqual({
    name: "ci",
    scopes: ["data:read", "data:write"],
    enabled: true,
    expires_at: null,
  });
});

test("two keys without scopes share no list", () => {
  apiKeySettings.parse({ name: "a" }).scopes.pop();
  expect(apiKeySettings.parse({ name: "a" }).scopes).toEqual(["data:read", "data:write"]);
});

test("a name has 1 to 128 characters, and an emoji is one", () => {
  const names = ["a", "a".repeat(127), "a".repeat(128), "😀".repeat(128)];
  expect(names.filter((name) => !acceptsName(name))).toEqual([]);
  const wrong = ["", "a".repeat(129), "😀".repeat(129), `${"😀".repeat(128)}a`, undefined, null, 1, ["a"]];
  expect(wrong.filter(acceptsName)).toEqual([]);
});

test("a name holds any text that can be printed, and comes back as it was sent", () => {
  const names = [
    " ",
    "ä",
    "a\u0308",
    "😀",
    "👩‍👩‍👧",
    "שלום",
    "\u00a0",
    "\ufffd",
    "<script>",
    "'\"\\",
    "__proto__",
    "{}",
  ];
  expect(names.filter((name) => apiKeySettings.parse({ name }).name !== name)).toEqual([]);
  const text = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.string({ unit: "binary", maxLength: 140, size: "max" }),
  );
  fc.assert(
    fc.property(text, (name) => {
      const fits = name !== "" && [...name].length <= 128 && !CONTROLS.some((one) => name.includes(one));
      const parsed = apiKeySettings.safeParse({ name });
      expect([parsed.success, parsed.data?.name]).toEqual([fits, fits ? name : undefined]);
    }),
  );
});

test("no control character, line separator or half of a surrogate pair can stand anywhere in a name", () => {
  const refused = [...CONTROLS, ...codes(0xd800, 0xdfff), "\udc00\ud800"];
  const around = refused.flatMap((one) => [one, `${one}a`, `a${one}`, `a${one}a`]);
  expect(around.filter(acceptsName)).toEqual([]);
});

test("scopes are one or more of those that a key can have, each named once", () => {
  fc.assert(
    fc.property(fc.subarray([...keyScopes], { minLength: 1 }), fc.nat(2), (scopes, again) => {
      expect(apiKeySettings.parse({ name: "a", scopes }).scopes).toEqual(scopes);
      expect(accepts({ scopes: [...scopes, scopes[again % scopes.length]] })).toBe(false);
    }),
  );
  const wrong = [
    [],
    ["keys:read"],
    ["keys:write"],
    ["data:read", "keys:write"],
    ["*"],
    ["data:*"],
    ["DATA:READ"],
    [""],
  ];
  const notLists = [
    "data:read",
    "data:read data:write",
    null,
    {},
    1,
    [null],
    [["data:read"]],
    { 0: "data:read" },
  ];
  expect([...wrong, ...notLists].filter((scopes) => accepts({ scopes }))).toEqual([]);
});

test("a key can be created disabled, by true or false and nothing like them", () => {
  expect(apiKeySettings.parse({ name: "a", enabled: false }).enabled).toBe(false);
  expect(["false", "true", 0, 1, null, ""].filter((enabled) => accepts({ enabled }))).toEqual([]);
});

test("a key expires in the future, not now and not before", () => {
  vi.useFakeTimers({ now: NOW });
  expect(acceptsExpiry(toTimestamp(NOW + 1))).toBe(true);
  expect(acceptsExpiry(toTimestamp(NOW))).toBe(false);
  expect(acceptsExpiry(toTimestamp(NOW - 1))).toBe(false);
  expect(acceptsExpiry(null)).toBe(true);
});

test("an expiry is compared as a point in time, whatever offset it is written in", () => {
  vi.useFakeTimers({ now: NOW });
  expect(acceptsExpiry("2026-01-31T13:00:00.001+01:00")).toBe(true);
  expect(acceptsExpiry("2026-01-31T13:00:00.000+01:00")).toBe(false);
  expect(acceptsExpiry("2026-01-31T06:30:00.001-05:30")).toBe(true);
  expect(acceptsExpiry("2026-01-31T06:29:59.999-05:30")).toBe(false);
});

test("what is no RFC 3339 time with an offset is no expiry", () => {
  const wrong = [
    "",
    "never",
    "2099",
    "2099-01-01",
    "2099-01-01T00:00:00",
    "2099-01-01 00:00:00Z",
    "2099-02-29T00:00:00Z",
  ];
  wrong.push(
    "2099-13-01T00:00:00Z",
    "2099-01-01T24:00:00Z",
    "2099-01-01T00:60:00Z",
    "2099-01-01T00:00:00+0100",
  );
  wrong.push(
    "2099-01-01T00:00:00+24:00",
    "2099-01-01T00:00:00Z\n",
    "+012099-01-01T00:00:00Z",
    "99999-01-01T00:00:00Z",
  );
  expect(wrong.filter(acceptsExpiry)).toEqual([]);
  expect([0, 4_070_908_800_000, true, {}, []].filter(acceptsExpiry)).toEqual([]);
});

test("every expiry that is accepted can be answered: it is a time that the answers' own schema takes", () => {
  const offset = fc
    .tuple(fc.constantFrom("+", "-"), fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
    .map(
      ([sign, hours, minutes]) =>
        `${sign}${String(hours).padStart(2, "0")}:${String(minutes).padStart(2, "0")}`,
    );
  const from = new Date("2100-01-01T00:00:00.000Z");
  const at = fc.date({ min: from, max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true });
  fc.assert(
    fc.property(at, fc.option(offset, { nil: "Z" }), (at, offset) => {
      const expires_at = at.toISOString().replace("Z", offset);
      fc.pre(acceptsExpiry(expires_at));
      // As redis/api-keys.ts stores it and answers it, at the creation and in every list from then on.
      expect(timestamp.safeParse(toTimestamp(Date.parse(expires_at))).success).toBe(true);
    }),
    { examples: [[new Date("9999-12-31T23:59:59.000Z"), "-23:59"]] },
  );
});

test("a field that is not known is refused: nobody chooses a key's id, hash, tenant or creator", () => {
  const fields = [
    "key_id",
    "key_value",
    "hash",
    "pepper",
    "tenant_id",
    "created_by",
    "created_at",
    "prefix",
    "Name",
  ];
  expect(fields.filter((field) => accepts({ [field]: "x" }))).toEqual([]);
  expect(apiKeySettings.safeParse(JSON.parse('{"name":"a","__proto__":{"enabled":false}}')).success).toBe(
    false,
  );
});

test("a listed key shows its own fields, and never its text, hash or pepper", () => {
  const stored = { ...view, key_value: "lk_live_x", hash: "h", pepper: "p", tenant_id: "t" };
  expect(apiKeyView.parse(stored)).toEqual(view);
});

test("only the answer to a creation holds the key's text, and it always does", () => {
  expect(createdApiKey.parse({ ...view, key_value: "lk_live_x", hash: "h" })).toEqual({
    ...view,
    key_value: "lk_live_x",
  });
  expect(createdApiKey.safeParse(view).success).toBe(false);
});
