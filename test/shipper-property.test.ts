/** audit-ship against any Loki that comes to its senses in the end. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { type Answer, createRig, entryOf, type Push } from "./support/shipper.ts";

const HOUR = 3_600_000;
const actions = ["create_key", "get_key"] as const;
const tenants = ["acme", "bolt", "cord"] as const;

const badAnswer = fc.constantFrom<Answer>("no answer", 500, 503, 429, 401, 260, 404, 204, 204);
/** What Loki answers to one push after the other, each after so long. */
const script = fc.array(fc.record({ answer: badAnswer, after: fc.constantFrom(0, 0, 50, 3_000) }), {
  maxLength: 60,
});
/** Entries of all tenants in the order of their numbers, in deliveries of a few, some of which come twice. */
const delivery = fc.record({
  tenant: fc.constantFrom(...tenants),
  actions: fc.array(fc.constantFrom(...actions), { minLength: 1, maxLength: 30, size: "max" }),
  wait: fc.constantFrom(0, 0, 100, 1_000),
  twice: fc.boolean(),
});
/** One in so many entries is poisoned; 0: none. */
const poison = fc.constantFrom(0, 0, 1, 2, 7, 40);
const failuresOfRemoval = fc.array(fc.boolean(), { maxLength: 5 });

const keyOf = (tenant: string, seq: number): string => `${tenant}/${seq}`;

/** Entries whose turn others may take: they failed alone three times, or ten times in pushes that were told 429. */
function setAside(pushes: readonly Push[]): Set<string> {
  const failures = new Map<string, number>();
  const count = (key: string): number => failures.set(key, (failures.get(key) ?? 0) + 1).get(key) ?? 0;
  const aside = new Set<string>();
  const streams = new Set<string>();
  for (const { tenant, action, seqs, status = 0 } of pushes) {
    const stream = `${tenant}/${action}`;
    const failedAlone = (status === 0 || status >= 500) && seqs.length === 1;
    for (const key of seqs.map((seq) => keyOf(tenant, seq))) {
      // Once one is set aside, the next ones are so at their first failure.
      const enough = failedAlone && (count(`alone ${key}`) >= 3 || streams.has(stream));
      if (!enough && !(status === 429 && count(`429 ${key}`) >= 10)) continue;
      aside.add(key);
      streams.add(stream);
    }
  }
  return aside;
}

test("every entry is stored and removed once or quarantined, oldest first, with one push of a stream at a time", async () => {
  await fc.assert(
    fc.asyncProperty(
      script,
      fc.array(delivery, { minLength: 1, maxLength: 12, size: "max" }),
      poison,
      failuresOfRemoval,
      fc.integer({ min: 1, max: 20 }),
      async (script, deliveries, every, removals, batchEntries) => {
        const isPoisoned = (seq: number): boolean => every > 0 && seq % every === 0;
        const answers = [...script];
        const answer = ({ seqs }: Push): Answer => {
          const next = answers.shift();
          const poisoned = seqs.some(isPoisoned);
          if (next === undefined || next.answer === 204) return poisoned ? 400 : 204;
          return typeof next.answer === "number" ? { after: next.after, status: next.answer } : next.answer;
        };
        const rig = createRig({
          answer,
          remove: async () => {
            if (removals.shift() === true) throw new Error("Redis is away");
          },
          limits: { batchEntries },
        });

        const seqs = new Map<string, number>();
        const sent = [];
        const all: AuditEntry[] = [];
        for (const { tenant, actions, wait, twice } of deliveries) {
          const entries = actions.map((action) => {
            const seq = (seqs.get(tenant) ?? 0) + 1;
            seqs.set(tenant, seq);
            return entryOf(tenant, seq, { action });
          });
          all.push(...entries);
          sent.push(rig.send(tenant, entries));
          if (twice) sent.push(rig.send(tenant, entries.toReversed()));
          await rig.clock.advance(wait);
        }
        await rig.clock.advance(2 * HOUR);

        expect(new Set(sent.map(({ outcome }) => outcome))).toEqual(new Set(["settled"]));
        expect(rig.stats()).toMatchObject({ entries: 0, bytes: 0, deliveries: 0, held: 0 });
        expect(rig.removed.toSorted()).toEqual(all.map(({ tenant_id, seq }) => keyOf(tenant_id, seq)).sort());
        const poisoned = all
          .filter(({ seq }) => isPoisoned(seq))
          .map((entry) => keyOf(entry.tenant_id, entry.seq));
        expect(rig.quarantined.map(({ tenant, seq }) => keyOf(tenant, seq)).sort()).toEqual(poisoned.sort());
        expect(rig.most.stream).toBe(1);

        const stored = rig.pushes.filter(({ status }) => status === 204);
        const keys = stored.flatMap(({ tenant, seqs }) => seqs.map((seq) => keyOf(tenant, seq)));
        expect(new Set(keys).size).toBe(keys.length);
        expect(keys.length + poisoned.length).toBe(all.length);
        const aside = setAside(rig.pushes);
        for (const tenant of tenants)
          for (const action of actions) {
            const order = stored
              .filter((push) => push.tenant === tenant && push.action === action)
              .flatMap(({ seqs }) => seqs)
              .filter((seq) => !aside.has(keyOf(tenant, seq)));
            expect(order).toEqual(order.toSorted((a, b) => a - b));
          }
      },
    ),
    { numRuns: 200 },
  );
});
