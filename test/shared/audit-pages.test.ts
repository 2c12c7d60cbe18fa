/** Pages of the audit trail, whatever waits in the outbox, whatever Loki has, and whatever somebody else has put there. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { AuditEntry, AuditFilter } from "../../shared/audit.ts";
import type { Position } from "../../shared/audit-pages.ts";
import type { Call } from "../../shared/call.ts";
import { nsOf, toLokiEntry } from "../../shared/loki.ts";
import { createHistory } from "../../shared/loki-history.ts";
import { createAuditStore } from "../../shared/redis/audit.ts";
import { streamIdOf } from "../../shared/redis/keys.ts";
import { DAY, entryOf, eventIdOf } from "../support/loki-tools.ts";

const NOW = Date.parse("2026-06-01T00:00:00.000Z");
const TENANT = "acme";

interface Line {
  readonly ns: string;
  readonly line: string;
}
interface World {
  /** Every entry of ours, oldest first. */
  readonly trail: readonly AuditEntry[];
  readonly waiting: readonly AuditEntry[];
  readonly lines: readonly Line[];
}

const lineOf = (entry: AuditEntry, ns = nsOf(entry)): Line => ({ ns, line: toLokiEntry(entry)[1] });
const compare = (a: Line, b: Line): number => Number(BigInt(b.ns) - BigInt(a.ns));

/** The record of the outbox that this entry is read from. */
const record = (entry: AuditEntry): [string, string[]] => {
  const { id, action, request_id, target, details, outcome, username, actor } = entry;
  const fields = {
    context: JSON.stringify({ id, action, request_id, target, details }),
    at: Date.parse(entry.timestamp),
    ...{ outcome, username, reason: "", actor: `${actor.type}:${actor.id}` },
  };
  return [streamIdOf(entry), Object.entries(fields).flat().map(String)];
};

function storeOf({ trail, waiting, lines }: World) {
  const newest = [...waiting].sort((a, b) => b.seq - a.seq);
  const execute = async (_: Call, { args = [] }: { args?: readonly string[] }) => {
    const below = args[0] ? Number(args[0]) : Number.POSITIVE_INFINITY;
    const rows = newest.filter(({ seq }) => seq < below).slice(0, Number(args[1]));
    return [String(NOW - 200 * DAY), String(trail.length), rows.map(record)];
  };
  const queryRange = async (
    _: string,
    { start, end, limit }: { start: string; end: string; limit: number },
  ) =>
    [...lines]
      .sort(compare)
      .filter(({ ns }) => BigInt(ns) >= BigInt(start) && BigInt(ns) < BigInt(end))
      .slice(0, limit);
  return createAuditStore(
    execute,
    createHistory({ queryRange }, () => NOW),
  );
}

async function allPages(world: World, filter: AuditFilter, limit: number): Promise<AuditEntry[]> {
  const store = storeOf(world);
  const found: AuditEntry[] = [];
  let before: Position | undefined;
  // Windows without an entry cost a page now and then.
  for (let pages = 0; pages <= world.trail.length + world.lines.length + 10; pages += 1) {
    const { entries, next } = await store.list({ tenantId: TENANT } as Call, filter, { limit, before });
    found.push(...entries);
    if (next === null) return found;
    before = next;
  }
  throw new Error("the pages do not end");
}

/** Up to 40 entries, many of one millisecond, some months apart; each waits, is in Loki, or both. */
const places = fc.array(
  fc.record({
    gap: fc.constantFrom(0, 0, 0, 1, 1_000, 20 * DAY),
    place: fc.constantFrom("outbox", "loki", "both"),
    action: fc.constantFrom("get_key", "create_key"),
  }),
  { maxLength: 40 },
);
/** What somebody has put into Loki: any number, any time, possibly not its own, and things that are no entries. */
const forgeries = fc.array(
  fc.record({
    seq: fc.integer({ min: 1, max: 60 }),
    ago: fc.integer({ min: 0, max: 100 * DAY }),
    kind: fc.constantFrom("like ours", "at another time", "no entry"),
  }),
  { maxLength: 8 },
);

function worldOf(all: typeof places extends fc.Arbitrary<infer T> ? T : never) {
  let at = NOW - 1 - all.reduce((sum, { gap }) => sum + gap, 0);
  const trail = all.map(({ gap, action }, index) => {
    at += gap;
    return entryOf({ tenant_id: TENANT, seq: index + 1, at, action: action as AuditEntry["action"] });
  });
  const placed = (...where: string[]) => trail.filter((_, index) => where.includes(all[index]?.place ?? ""));
  return {
    trail,
    waiting: placed("outbox", "both"),
    lines: placed("loki", "both").map((entry) => lineOf(entry)),
  };
}

const limits = fc.constantFrom(1, 2, 3, 7, 100);
const filters: fc.Arbitrary<AuditFilter> = fc.constantFrom({}, { action: "get_key" as const });
const matching = (trail: readonly AuditEntry[], { action }: AuditFilter) =>
  trail.filter((entry) => action === undefined || entry.action === action).toReversed();

test("every entry that matches is shown once, newest first, wherever it is", async () => {
  await fc.assert(
    fc.asyncProperty(places, filters, limits, async (all, filter, limit) => {
      const world = worldOf(all);
      expect(await allPages(world, filter, limit)).toEqual(matching(world.trail, filter));
    }),
    { numRuns: 300 },
  );
});

test("whatever is forged in Loki, the pages end and hold all that is ours, and no number that was not given out", async () => {
  await fc.assert(
    fc.asyncProperty(places, forgeries, filters, limits, async (all, forged, filter, limit) => {
      const world = worldOf(all);
      const lines = forged.map(({ seq, ago, kind }, index) => {
        const given = { tenant_id: TENANT, seq, at: NOW - ago, id: eventIdOf(`forged ${index}`) };
        const entry = entryOf(given);
        if (kind === "no entry") return { ...lineOf(entry), line: "x" };
        return kind === "like ours" ? lineOf(entry) : lineOf(entry, String(BigInt(nsOf(entry)) - 7n));
      });
      const found = await allPages({ ...world, lines: [...world.lines, ...lines] }, filter, limit);
      const ids = new Set(world.trail.map(({ id }) => id));
      expect(found.filter(({ id }) => ids.has(id))).toEqual(matching(world.trail, filter));
      expect(found.filter(({ seq }) => seq > world.trail.length)).toEqual([]);
    }),
    { numRuns: 500 },
  );
});
