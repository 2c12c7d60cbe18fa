/** audit-ship when Loki does not answer 204: what goes again, what is halved, who waits. */
import { describe, expect, test } from "vitest";
import type { AuditAction, AuditEntry } from "../shared/audit.ts";
import { createRig, entriesOf, entryOf, type Push } from "./support/shipper.ts";

const HOUR = 3_600_000;
const gaps = (pushes: readonly Push[]): number[] =>
  pushes.slice(1).map(({ at }, i) => at - (pushes[i] as Push).at);
const has =
  (seq: number) =>
  ({ seqs }: Push): boolean =>
    seqs.includes(seq);
const sorted = (removed: readonly string[]): number[] =>
  removed.map((one) => Number(one.split("/")[1])).sort((a, b) => a - b);
const numbers = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe("no answer and 5xx", () => {
  test.each(["no answer", 500, 502, 503, 504, 408] as const)(
    "%s: the same bytes go again, and then it is settled",
    async (failure) => {
      let failures = 2;
      const rig = createRig({ answer: () => (failures-- > 0 ? failure : 204) });
      const sent = rig.send("acme", entriesOf("acme", 1, 3));
      await rig.clock.advance(400);
      expect([sent.outcome, rig.removed]).toEqual(["pending", []]);
      await rig.clock.advance(5_000);
      expect([sent.outcome, rig.removed.length]).toEqual(["settled", 3]);
      expect(new Set(rig.pushes.map(({ body }) => body)).size).toBe(1);
      expect(rig.pushes).toHaveLength(3);
      expect(rig.eventsOf("retried")).toHaveLength(2);
    },
  );

  test.each([0, 0.5, 0.999])(
    "waits grow from 0.2 to 30 s and are never outside (random %d)",
    async (random) => {
      const rig = createRig({ answer: () => 503, random: () => random });
      rig.send("acme", [entryOf("acme", 1)]);
      await rig.clock.advance(HOUR);
      const waits = gaps(rig.pushes);
      expect(Math.min(...waits)).toBeGreaterThanOrEqual(200);
      expect(waits[0]).toBeLessThanOrEqual(400);
      // It is set aside in the end: its own wait and the stream's, each of 30 s at most.
      expect(Math.max(...waits)).toBeLessThanOrEqual(60_000);
      expect(waits.at(-1)).toBeGreaterThanOrEqual(30_000);
      expect(rig.quarantined).toEqual([]);
    },
  );

  test("a batch that fails three times is halved, and so on until what can be stored is stored", async () => {
    const rig = createRig({ answer: ({ seqs }) => (seqs.length > 2 ? 500 : 204) });
    const sent = rig.send("acme", entriesOf("acme", 1, 8));
    await rig.clock.advance(60_000);
    expect(sent.outcome).toBe("settled");
    const sizes = rig.pushes.map(({ seqs }) => seqs.length);
    expect(sizes).toEqual([8, 8, 8, 4, 2, 2, 4, 2, 2]);
  });

  test("an entry fails alone three times before others pass it", async () => {
    const rig = createRig({ answer: (push) => (has(1)(push) ? 500 : 204) });
    rig.send("acme", entriesOf("acme", 1, 2));
    await rig.clock.advance(5_000);
    expect(rig.pushes.slice(0, 7).map(({ seqs }) => seqs)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
      [1],
      [1],
      [1],
      [2],
    ]);
  });

  test("an hour without Loki costs a busy stream few pushes and no entry, and then all arrive", async () => {
    let up = false;
    const rig = createRig({ answer: () => (up ? 204 : "no answer") });
    const sent = rig.send("acme", entriesOf("acme", 1, 5_000));
    await rig.clock.advance(HOUR);
    const during = rig.pushes.length;
    expect(during).toBeLessThan(200);
    up = true;
    await rig.clock.advance(120_000);
    expect([sent.outcome, rig.quarantined]).toEqual(["settled", []]);
    expect(sorted(rig.removed)).toEqual(numbers(1, 5_000));
    expect(rig.pushes.length - during).toBeLessThan(200);
  });

  describe("what is newer by more than half an hour", () => {
    /** Entry `seq` of a stream in which there is one a minute. */
    const entryAt = (seq: number, action?: AuditAction): AuditEntry => ({
      ...entryOf("acme", seq, action === undefined ? {} : { action }),
      timestamp: new Date(Date.UTC(2026, 0, 31) + seq * 60_000).toISOString(),
    });

    test.each([0, 0.5, 0.999])("shuts out nothing after hours without Loki (random: %d)", async (random) => {
      let up = false;
      let newest = 0;
      const rig = createRig({
        random: () => random,
        answer({ seqs, action }) {
          // The last that was taken before it all began.
          if (action === "get_key") return 204;
          if (!up) return "no answer";
          // As Loki does: what is more than an hour behind the newest of its stream is refused.
          const behind = seqs.filter(
            (seq) => seq < Math.max(newest, ...seqs.filter((one) => one < seq)) - 60,
          );
          newest = Math.max(newest, ...seqs);
          return behind.length > 0 ? { status: 400, text: "entry too far behind" } : 204;
        },
      });
      rig.send("acme", [entryAt(0, "get_key")]);
      for (let seq = 1; seq <= 600; seq++) {
        rig.send("acme", [entryAt(seq)]);
        await rig.clock.advance(60_000);
      }
      up = true;
      await rig.clock.advance(120_000);
      expect(rig.quarantined).toEqual([]);
      expect(sorted(rig.removed)).toEqual(numbers(0, 600));
    });

    test("passes an entry that fails alone once the tenant's other streams show that it is not Loki", async () => {
      const rig = createRig({ answer: (push) => (has(1)(push) ? 500 : 204) });
      rig.send("acme", [entryAt(1)]);
      await rig.clock.advance(60_000);
      rig.send("acme", [entryAt(40)]);
      await rig.clock.advance(600_000);
      expect(rig.removed).toEqual([]);
      for (let seq = 41; seq < 45; seq++) {
        rig.send("acme", [entryAt(seq, "get_key")]);
        await rig.clock.advance(60_000);
      }
      expect(sorted(rig.removed)).toEqual(numbers(40, 44));
      expect(rig.quarantined).toEqual([]);
    });
  });

  test("an entry that fails for ever while its stream takes all others is quarantined within a minute, and they do not wait", async () => {
    const rig = createRig({ answer: (push) => (has(1)(push) ? 500 : 204) });
    const sent = rig.send("acme", entriesOf("acme", 1, 1_000));
    await rig.clock.advance(7_000);
    expect(sorted(rig.removed)).toEqual(numbers(2, 1_000));
    for (let seq = 1_001; seq < 1_100; seq++) {
      rig.send("acme", [entryOf("acme", seq)]);
      await rig.clock.advance(500);
    }
    expect(rig.quarantined).toEqual([{ tenant: "acme", seq: 1, reason: "500 " }]);
    expect(rig.eventsOf("quarantined")).toMatchObject([{ class: "server_error" }]);
    expect(sent.outcome).toBe("settled");
  });

  test("two such entries side by side do not shield each other", async () => {
    const rig = createRig({ answer: (push) => (has(1)(push) || has(2)(push) ? "no answer" : 204) });
    rig.send("acme", entriesOf("acme", 1, 100));
    await rig.clock.advance(20_000);
    expect(sorted(rig.removed)).toEqual(numbers(3, 100));
  });

  test("an entry that fails alone is never quarantined while nothing else of its stream is stored either", async () => {
    const rig = createRig({ answer: ({ action }) => (action === "get_key" ? 204 : 500) });
    const sent = rig.send("acme", entriesOf("acme", 1, 2));
    for (let seq = 3; seq < 100; seq++) {
      rig.send("acme", [entryOf("acme", seq, { action: "get_key" })]);
      await rig.clock.advance(60_000);
    }
    expect([sent.outcome, rig.quarantined]).toEqual(["pending", []]);
    expect(rig.removed).toHaveLength(97);
  });
});

describe("429", () => {
  const burst = (bytes: number, perSecond: number) => {
    let tokens = bytes;
    let since = 0;
    return ({ seqs, at }: Push): number => {
      tokens = Math.min(bytes, tokens + ((at - since) / 1_000) * perSecond);
      since = at;
      if (seqs.length * 100 > tokens) return 429;
      tokens -= seqs.length * 100;
      return 204;
    };
  };

  test("one tenant held by 429 for a minute: another tenant's entries settle at once", async () => {
    const rig = createRig({ answer: ({ tenant, at }) => (tenant === "acme" && at < 60_000 ? 429 : 204) });
    const held = rig.send("acme", entriesOf("acme", 1, 2_000));
    const other = rig.send("acme", entriesOf("acme", 3_001, 3_100, "get_key"));
    for (let seq = 1; seq < 110; seq++) {
      const sent = rig.send("bolt", [entryOf("bolt", seq)]);
      await rig.clock.advance(500);
      expect(sent.outcome).toBe("settled");
    }
    await rig.clock.advance(60_000);
    expect([held.outcome, other.outcome]).toEqual(["settled", "settled"]);
    const asked = rig.pushes.filter(({ tenant, at }) => tenant === "acme" && at < 60_000);
    expect(asked.length).toBeLessThan(12);
  });

  test("all streams of the tenant wait, and one push at a time asks whether it is over", async () => {
    const rig = createRig({ answer: () => ({ after: 100, status: 429 }) });
    rig.send("acme", entriesOf("acme", 1, 10));
    rig.send("acme", entriesOf("acme", 11, 20, "get_key"));
    await rig.clock.advance(500);
    const first = rig.pushes.length;
    expect(first).toBe(2);
    await rig.clock.advance(60_000);
    for (const wait of gaps(rig.pushes.slice(first))) expect(wait).toBeGreaterThanOrEqual(300);
  });

  test("pushes under way together that are all told so count as one", async () => {
    const actions = ["create_key", "get_key", "update_key", "delete_key"] as const;
    const rig = createRig({ answer: () => ({ after: 100, status: 429 }) });
    for (const [seq, action] of actions.entries()) rig.send("acme", [entryOf("acme", seq + 1, { action })]);
    await rig.clock.advance(1_000);
    expect(rig.pushes.map(({ at }) => at)).toEqual([300, 300, 300, 300, 700]);
  });

  test("a batch of up to 64 KiB is not halved", async () => {
    const rig = createRig({ answer: ({ at }) => (at < 600_000 ? 429 : 204) });
    const sent = rig.send("acme", entriesOf("acme", 1, 655));
    await rig.clock.advance(700_000);
    expect([sent.outcome, rig.eventsOf("bisected")]).toEqual(["settled", []]);
  });

  test("Retry-After is obeyed, up to 30 s", async () => {
    const answers = [5_000, 1_000_000, 1].map((retryAfterMs) => ({ status: 429, text: "", retryAfterMs }));
    const rig = createRig({ answer: () => answers.shift() ?? 204 });
    rig.send("acme", [entryOf("acme", 1)]);
    await rig.clock.advance(60_000);
    expect(gaps(rig.pushes)).toEqual([5_000, 30_000, 200]);
  });

  test("a batch above the tenant's burst gets through in parts", async () => {
    const rig = createRig({ answer: burst(100_000, 100_000) });
    const sent = rig.send("acme", entriesOf("acme", 1, 5_000));
    await rig.clock.advance(10 * 60_000);
    expect(sent.outcome).toBe("settled");
    expect(rig.pushes.length).toBeLessThan(60);
  });

  test("a tenant that sends above its rate is slowed down, not cut to dust", async () => {
    const rig = createRig({ answer: burst(600_000, 50_000), limits: { tenantEntries: 100_000 } });
    const sent = rig.send("acme", entriesOf("acme", 1, 50_000));
    await rig.clock.advance(10 * 60_000);
    expect(sent.outcome).toBe("settled");
    const stored = rig.pushes.filter(({ status }) => status === 204);
    expect(stored.length).toBeLessThan(60);
    expect(Math.min(...stored.map(({ seqs }) => seqs.length))).toBeGreaterThan(300);
  });

  test("it is never a reason to quarantine: the entry waits, and after ten times lets others pass", async () => {
    const rig = createRig({ answer: (push) => (has(1)(push) ? 429 : 204) });
    const stuck = rig.send("acme", [entryOf("acme", 1)]);
    await rig.clock.advance(1_000);
    const next = rig.send("acme", [entryOf("acme", 2)]);
    await rig.clock.advance(HOUR);
    expect([stuck.outcome, next.outcome, rig.quarantined]).toEqual(["pending", "settled", []]);
  });
});
