import fc from "fast-check";
import { expect, test } from "vitest";
import { checkIntegrity } from "../../shared/audit-integrity.ts";
import type { Call } from "../../shared/call.ts";
import { createAuditStore } from "../../shared/redis/audit.ts";
import { entryOf } from "../support/loki-tools.ts";

const entriesAt = (...seqs: number[]) => seqs.map((seq) => ({ seq, id: `evt_${seq}` }));
const whole = { quarantined: [] };

test("a trail that counts from 1 to the last number given out is whole, in whatever order it is found", () => {
  expect(
    checkIntegrity({ ...whole, entries: entriesAt(3, 1, 2), expectedFirst: 1, expectedLast: 3 }),
  ).toEqual({
    first: 1,
    last: 3,
    found: 3,
    gaps: [],
    duplicates: [],
    complete: true,
  });
});

test("whatever is taken away shows as gaps that hold just that", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 60 })),
      (last, taken) => {
        const all = Array.from({ length: last }, (_, index) => index + 1);
        const left = all.filter((seq) => !taken.includes(seq));
        const { gaps } = checkIntegrity({
          ...whole,
          entries: entriesAt(...left),
          expectedFirst: 1,
          expectedLast: last,
        });
        const missing = gaps.flatMap(({ from, to }) => all.filter((seq) => seq >= from && seq <= to));
        expect(missing).toEqual(all.filter((seq) => taken.includes(seq)));
      },
    ),
  );
});

test("in a time range only what lies between its first and last entry can be missing", () => {
  const { gaps, first, last } = checkIntegrity({
    ...whole,
    entries: entriesAt(5, 6, 9),
    quarantined: [2, 7, 12],
  });
  expect([first, last, gaps]).toEqual([5, 9, [{ from: 8, to: 8 }]]);
});

test("where nothing was found although the last number belongs there, that is missing", () => {
  expect(checkIntegrity({ ...whole, entries: [], expectedLast: 7 }).gaps).toEqual([{ from: 7, to: 7 }]);
  expect(checkIntegrity({ ...whole, entries: [] }).gaps).toEqual([]);
});

test("a number under which two different entries stand is a duplicate, the same entry twice is not", () => {
  const entries = [...entriesAt(1, 2, 2), { seq: 1, id: "evt_other" }];
  expect(checkIntegrity({ ...whole, entries }).duplicates).toEqual([1]);
});

test("below what was looked at nothing is called whole, and nothing missing", () => {
  const { gaps, found, complete } = checkIntegrity({
    entries: entriesAt(2, 3, 8, 9, 11),
    quarantined: [5],
    wholeFrom: 8,
    expectedFirst: 1,
    expectedLast: 12,
  });
  expect([complete, found, gaps]).toEqual([
    false,
    6,
    [
      { from: 10, to: 10 },
      { from: 12, to: 12 },
    ],
  ]);
});

test("where nothing was looked at to the end, nothing is called missing", () => {
  const { gaps, complete } = checkIntegrity({
    ...whole,
    entries: [],
    wholeFrom: 4,
    expectedFirst: 1,
    expectedLast: 3,
  });
  expect([complete, gaps]).toEqual([false, []]);
});

test("a proof that has asked Loki as often as it may calls nothing missing below where it stopped", async () => {
  const execute = async () => [["0", "0"], "100", [], []];
  let seq = 101;
  const history = async () => {
    seq -= seq === 96 ? 2 : 1;
    return { entries: [entryOf({ seq })], floor: "1" };
  };
  const proof = await createAuditStore(execute, history).verify({ tenantId: "acme" } as Call, {});
  expect(proof).toEqual({
    first: 90,
    last: 100,
    found: 10,
    gaps: [{ from: 95, to: 95 }],
    duplicates: [],
    complete: false,
  });
});
