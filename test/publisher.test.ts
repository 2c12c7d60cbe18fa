/** Publishing: bounded in everything, off the request path, and every entry is accounted for. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import type { AuditAction, AuditEntry } from "../shared/audit.ts";
import { readEvent } from "../shared/events.ts";
import { type Clock, createPublisher, type PublisherOptions } from "../shared/node/publisher.ts";
import type { Send } from "../shared/node/sender.ts";
import { startBroker } from "./support/broker-double.ts";
import { entryOf as anEntry } from "./support/loki-tools.ts";

const entryOf = (seq: number, tenant_id = "tenant1", action: AuditAction = "get_key", username = "ada") =>
  anEntry({ seq, tenant_id, action, username, at: 0 });
const many = (count: number): AuditEntry[] => Array.from({ length: count }, (_, i) => entryOf(i + 1));
/** Fills an event alone. */
const large = (seq: number): AuditEntry => entryOf(seq, "tenant1", "get_key", "x".repeat(50_000));

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

/** A sink on a real socket. It answers 202 unless told otherwise. */
async function startSink(answer = (response: ServerResponse) => response.writeHead(202).end() as unknown) {
  const seen = { events: [] as AuditEntry[][], posts: 0, inFlight: 0, most: 0, sockets: 0 };
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    seen.posts += 1;
    seen.inFlight += 1;
    seen.most = Math.max(seen.most, seen.inFlight);
    response.once("close", () => {
      seen.inFlight -= 1;
    });
    const event = readEvent(
      new Headers(request.headers as Record<string, string>),
      await text(request).catch(() => ""),
    );
    if ("entries" in event) seen.events.push(event.entries);
    answer(response);
  });
  server.on("connection", () => {
    seen.sockets += 1;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/default/audit` };
}

function start(sink: string, options: Partial<PublisherOptions> = {}) {
  const seen = { published: 0, left: {} as Record<string, number>, posted: [] as (string | number)[] };
  const publisher = createPublisher({
    sink,
    source: "/functions/data-get",
    observe: {
      published(entries) {
        seen.published += entries;
      },
      left(reason, entries) {
        seen.left[reason] = (seen.left[reason] ?? 0) + entries;
      },
      posted(status, seconds) {
        expect(seconds).toBeGreaterThanOrEqual(0);
        seen.posted.push(status);
      },
    },
    ...options,
  });
  cleanUps.push(() => void publisher.close(0));
  return { ...publisher, seen };
}

/** Time passes when it is told to. */
function manualClock() {
  let now = 0;
  const timers = new Set<{ at: number; callback: () => void }>();
  const clock: Clock = {
    now: () => now,
    after(milliseconds, callback) {
      const timer = { at: now + milliseconds, callback };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  const advance = (milliseconds: number): void => {
    const until = now + milliseconds;
    for (;;) {
      const [next] = [...timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      timers.delete(next);
      now = next.at;
      next.callback();
    }
    now = until;
  };
  return { clock, advance };
}

/** A sink that is asked, but answers only when told to. */
function manualSend() {
  const asked: { entries: AuditEntry[]; answer: (status: number) => void }[] = [];
  const send: Send = (headers, body) => {
    const { promise: answered, resolve: answer } = Promise.withResolvers<number>();
    const event = readEvent(new Headers(headers), body);
    asked.push({ entries: "entries" in event ? event.entries : [], answer });
    return { answered, cancel: () => undefined };
  };
  return { asked, send };
}
const seqs = (entries: readonly AuditEntry[] = []): number[] => entries.map(({ seq }) => seq);

test("entries of one tenant and action leave as one event 100 ms after the first of them, others apart", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const { publish } = start("http://sink", { clock, send });
  publish(entryOf(1));
  advance(60);
  for (const entry of [entryOf(2), entryOf(3, "tenant2"), entryOf(4, "tenant1", "delete_key")])
    publish(entry);
  advance(39);
  await expect.poll(() => asked.length).toBe(0);
  advance(1);
  await expect.poll(() => asked.length).toBe(1);
  advance(59);
  expect(asked).toHaveLength(1);
  advance(1);
  await expect.poll(() => asked.length).toBe(3);
  expect(asked.map(({ entries }) => seqs(entries))).toEqual([[1, 2], [3], [4]]);
});

test("an event that is full in between does not make others wait for longer than 100 ms", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const { publish } = start("http://sink", { clock, send });
  publish(large(1));
  advance(10);
  publish(entryOf(2, "tenant2"));
  advance(10);
  publish(large(3));
  advance(90);
  await expect.poll(() => asked.map(({ entries }) => seqs(entries))).toEqual([[1], [2]]);
});

test("publish never sends, not even when events are full: that is left to a timer", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const { publish } = start("http://sink", { clock, send });
  for (let seq = 1; seq <= 4; seq += 1) publish(large(seq));
  await new Promise(setImmediate);
  expect(asked).toEqual([]);
  advance(0);
  await expect.poll(() => asked.map(({ entries }) => seqs(entries))).toEqual([[1], [2], [3]]);
});

test("what the queue has no room for is left to the relay at once, by number and by bytes", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const few = start("http://sink", { clock, send, limits: { maxEntries: 10 } });
  for (const entry of many(15)) few.publish(entry);
  expect(few.seen.left).toEqual({ full: 5 });
  const small = start("http://sink", { clock, send, limits: { maxBytes: 120_000 } });
  for (const entry of [large(1), large(2), large(3), entryOf(4)]) small.publish(entry);
  expect(small.seen.left).toEqual({ full: 1 });
  // There is room again when entries are settled, not when they are on their way.
  advance(100);
  await expect.poll(() => asked.length).toBe(3);
  few.publish(entryOf(16));
  expect(few.seen.left).toEqual({ full: 6 });
  for (const { answer } of asked) answer(202);
  await expect.poll(() => [few.seen.published, small.seen.published]).toEqual([10, 3]);
  for (const entry of many(10)) few.publish(entry);
  for (const entry of [large(5), large(6)]) small.publish(entry);
  expect([few.seen.left, small.seen.left]).toEqual([{ full: 6 }, { full: 1 }]);
});

test("never more POSTs are in flight than allowed, and connections are used again", async () => {
  const waiting: ServerResponse[] = [];
  const sink = await startSink((response) => waiting.push(response));
  const { publish, seen } = start(sink.url, { limits: { inFlight: 3, lingerMs: 1 } });
  for (let i = 1; i <= 60; i += 1) publish(entryOf(i, `tenant${i}`));
  for (let answered = 0; answered < 60; answered += 1) {
    await expect.poll(() => waiting.length).toBe(Math.min(3, 60 - answered));
    waiting.shift()?.writeHead(202).end("accepted");
  }
  await expect.poll(() => seen.published).toBe(60);
  expect(sink.seen).toMatchObject({ posts: 60, most: 3 });
  expect(sink.seen.sockets).toBe(3);
});

test("while all POSTs are in flight entries go on gathering, and the oldest go next, whoever is busy", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const { publish } = start("http://sink", { clock, send, limits: { inFlight: 1 } });
  publish(entryOf(1));
  advance(100);
  await expect.poll(() => asked.length).toBe(1);
  publish(entryOf(2, "tenant2"));
  advance(1);
  for (let seq = 4; seq <= 6; seq += 1) publish(large(seq));
  publish(entryOf(7, "tenant3"));
  advance(200);
  publish(entryOf(3, "tenant2"));
  for (let i = 0; i < 5; i += 1) {
    asked[i]?.answer(202);
    await expect.poll(() => asked.length).toBe(i + 2);
  }
  expect(asked.map(({ entries }) => seqs(entries))).toEqual([[1], [2, 3], [4], [5], [6], [7]]);
});

test.each([
  ["an error", (response: ServerResponse) => response.writeHead(500).end("no"), 500],
  ["a refusal", (response: ServerResponse) => response.writeHead(400).end(), 400],
  ["a redirect", (response: ServerResponse) => response.writeHead(307, { location: "/other" }).end(), 307],
  ["a closed connection", (response: ServerResponse) => response.destroy(), "failed"],
  [
    "half an answer",
    (response: ServerResponse) =>
      response.writeHead(202, { "content-length": 9 }).write("x", () => response.destroy()),
    "failed",
  ],
])("after %s the entries are left to the relay, not sent again", async (_, answer, posted) => {
  const sink = await startSink(answer);
  const { publish, seen } = start(sink.url, { limits: { lingerMs: 1 } });
  publish(entryOf(1));
  publish(entryOf(2));
  await expect.poll(() => seen).toEqual({ published: 0, left: { failed: 2 }, posted: [posted] });
  expect(sink.seen.posts).toBe(1);
});

test("a sink that is not there, or an entry that cannot be sent, costs nobody but itself", async () => {
  const { publish, seen } = start("http://127.0.0.1:1/", { limits: { lingerMs: 1 } });
  publish(entryOf(1));
  await expect.poll(() => seen).toEqual({ published: 0, left: { failed: 1 }, posted: ["failed"] });
  const sink = await startSink();
  const other = start(sink.url, { limits: { lingerMs: 1 } });
  other.publish({ ...entryOf(1, "tenant2"), timestamp: "never" });
  other.publish(entryOf(2));
  await expect.poll(() => other.seen).toMatchObject({ published: 1, left: { failed: 1 } });
});

test("an answer that does not come in time is given up, also when the sender ignores it, and its place is free", async () => {
  const sink = await startSink(() => {});
  const { publish, seen } = start(sink.url, { limits: { lingerMs: 1, timeoutMs: 30, inFlight: 1 } });
  publish(entryOf(1));
  publish(entryOf(2, "tenant2"));
  await expect
    .poll(() => seen)
    .toEqual({ published: 0, left: { timeout: 2 }, posted: ["timeout", "timeout"] });
  await expect.poll(() => sink.seen.inFlight).toBe(0);
  const deaf = start("http://sink", {
    send: () => ({ answered: new Promise(() => {}), cancel: () => undefined }),
    limits: { lingerMs: 1, timeoutMs: 1 },
  });
  for (const entry of many(3)) deaf.publish(entry);
  await expect.poll(() => deaf.seen.left).toEqual({ timeout: 3 });
});

test("what was given up before it could be sent is not sent any more", async () => {
  const { clock, advance } = manualClock();
  const { asked, send } = manualSend();
  const { publish, seen } = start("http://sink", { clock, send, limits: { lingerMs: 1, timeoutMs: 1 } });
  publish(entryOf(1));
  // The second millisecond comes before the event is encoded, which takes a promise at least.
  advance(2);
  publish(entryOf(2));
  advance(1);
  await expect.poll(() => asked.map(({ entries }) => seqs(entries))).toEqual([[2]]);
  expect(seen.left).toEqual({ timeout: 1 });
});

test("an answer without end is cut off", async () => {
  const sink = await startSink((response) => {
    response.writeHead(202);
    const more = () => response.write("x".repeat(50_000), (error) => error ?? more());
    more();
  });
  const { publish, seen } = start(sink.url, { limits: { lingerMs: 1 } });
  publish(entryOf(1));
  await expect.poll(() => seen.published).toBe(1);
  await expect.poll(() => sink.seen.inFlight).toBe(0);
});

test("close sends what is held without lingering, and leaves what comes after it", async () => {
  const sink = await startSink();
  const { publish, close, seen } = start(sink.url, { limits: { lingerMs: 60_000 } });
  for (let i = 1; i <= 50; i += 1) publish(entryOf(i, `tenant${i % 7}`));
  const closing = close(10_000);
  publish(entryOf(51));
  expect(await closing).toBe(true);
  expect(seen).toMatchObject({ published: 50, left: { stopped: 1 } });
  expect(seqs(sink.seen.events.flat()).sort((a, b) => a - b)).toEqual(seqs(many(50)));
  expect([await close(0), await start(sink.url).close(10_000)]).toEqual([true, true]);
});

test("close gives up at its deadline: what is in flight or waits is left, and counted before it returns", async () => {
  const sink = await startSink(() => {});
  const { publish, close, seen } = start(sink.url, { limits: { lingerMs: 1, inFlight: 2 } });
  for (let i = 1; i <= 20; i += 1) publish(entryOf(i, `tenant${i}`));
  await expect.poll(() => sink.seen.inFlight).toBe(2);
  expect(await close(20)).toBe(false);
  expect(seen).toEqual({ published: 0, left: { stopped: 20 }, posted: ["stopped", "stopped"] });
  await expect.poll(() => sink.seen.inFlight).toBe(0);
});

test("whatever happens, each entry is counted exactly once, as published or as left", async () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ tenant: fc.nat(2), size: fc.constantFrom(0, 100, 30_000, 70_000) }) },
    { weight: 2, arbitrary: fc.constantFrom("advance" as const, "answer" as const) },
    { weight: 1, arbitrary: fc.constantFrom(500, 302, 204) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, isAnswered) => {
      const { clock, advance } = manualClock();
      const { asked, send } = manualSend();
      const limits = { maxEntries: 12, maxBytes: 300_000, timeoutMs: 350, inFlight: 2 };
      const { publish, close, seen } = start("http://sink", { clock, send, limits });
      let count = 0;
      for (const step of steps) {
        if (typeof step === "object") {
          count += 1;
          publish(entryOf(count, `t${step.tenant}`, "get_key", "x".repeat(step.size)));
        } else if (step === "advance") advance(70);
        else asked.shift()?.answer(step === "answer" ? 202 : step);
        await new Promise(setImmediate);
      }
      const closing = close(200);
      for (let i = 0; i < 30 && isAnswered; i += 1) {
        asked.shift()?.answer(202);
        await new Promise(setImmediate);
      }
      advance(200);
      expect(await closing).toBe(isAnswered || seen.left["stopped"] === undefined);
      expect(seen.published + Object.values(seen.left).reduce((sum, left) => sum + left, 0)).toBe(count);
      const { length } = asked;
      await new Promise(setImmediate);
      expect(asked).toHaveLength(length);
    }),
    { numRuns: 200 },
  );
});

test("through a broker that is slow, and killed and back, every entry is delivered or left, none is lost unseen", async () => {
  const consumer = await startSink((response) => response.writeHead(204).end());
  let broker = await startBroker({ subscriber: consumer.url });
  cleanUps.push(() => broker.kill());
  const { publish, close, seen } = start(broker.url, { limits: { lingerMs: 2 } });
  for (const entry of many(500)) publish(entry);
  await expect.poll(() => seen.published).toBe(500);
  await broker.kill();
  publish(entryOf(501));
  await expect.poll(() => seen.left).toEqual({ failed: 1 });
  broker = await startBroker({ subscriber: consumer.url, port: broker.port });
  publish(entryOf(502));
  expect(await close(10_000)).toBe(true);
  expect(seen).toMatchObject({ published: 501, left: { failed: 1 } });
  expect(seqs(consumer.seen.events.flat())).toEqual([...seqs(many(500)), 502]);
});
