/** The double of the broker does what knative/eventing does, as design/audit-pipeline.md and its sources have it. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, expect, test } from "vitest";
import { type BrokerOptions, startBroker } from "./support/broker-double.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

type Answer = (response: ServerResponse, attempt: number) => unknown;
const answered =
  (status: number, body = "", headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(status, headers).end(body);

/** A consumer that remembers what it was sent, and when. */
async function startConsumer(answer: Answer = answered(204)) {
  const got: { headers: IncomingHttpHeaders; body: string; at: number }[] = [];
  const server = createServer(async (request, response) => {
    got.push({ headers: request.headers, body: await text(request), at: performance.now() });
    answer(response, got.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(
    () => server.closeAllConnections(),
    () => server.close(),
  );
  return { got, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` };
}

async function start(answer?: Answer, options: Partial<BrokerOptions> = {}) {
  const consumer = await startConsumer(answer);
  const letters = await startConsumer();
  const urls = { subscriber: consumer.url, deadLetterSink: letters.url };
  const broker = await startBroker({ ...urls, backoffMs: 1, ...options });
  cleanUps.push(() => broker.kill());
  return { broker, consumer, letters };
}

const HEADERS = {
  "content-type": "application/json",
  "ce-specversion": "1.0",
  "ce-id": "1",
  "ce-source": "/functions/data-get",
  "ce-type": "dev.latchkey.audit.get_key",
};
const post = async (
  url: string,
  headers: Record<string, string> = HEADERS,
  body = "[1]",
): Promise<number> => {
  const response = await fetch(url, { method: "POST", headers, body });
  await response.text();
  return response.status;
};

const errorsOf = (headers: IncomingHttpHeaders = {}): string[] =>
  Object.keys(headers).filter((name) => name.startsWith("ce-knativeerror"));

test("an event is delivered with its attributes and bytes, and answered after the consumer has answered", async () => {
  let release = () => {};
  const { broker, consumer } = await start((response) => {
    release = () => response.writeHead(204).end();
  });
  const answer = post(broker.url, { ...HEADERS, "ce-count": "1" }, '[ 1, "\\ud800" ]');
  await expect.poll(() => consumer.got.length).toBe(1);
  expect(await Promise.race([answer, new Promise((resolve) => setImmediate(resolve, "none"))])).toBe("none");
  expect(broker.holding()).toBe(1);
  release();
  expect(await answer).toBe(202);
  expect(consumer.got[0]?.body).toBe('[ 1, "\\ud800" ]');
  expect(consumer.got[0]?.headers).toMatchObject({ ...HEADERS, "ce-count": "1", prefer: "reply" });
  expect(consumer.got[0]?.headers["ce-knativearrivaltime"]).toMatch(/^\d{4}-.*Z$/);
  expect(broker.counts).toMatchObject({ accepted: 1, attempts: 1, delivered: 1, lost: 0 });
});

test("with the asynchronous handler the producer is answered at once, and the event is delivered later", async () => {
  let release = () => {};
  const { broker, consumer } = await start(
    (response) => {
      release = () => response.writeHead(204).end();
    },
    { asyncHandler: true },
  );
  expect(await post(broker.url)).toBe(202);
  await expect.poll(() => consumer.got.length).toBe(1);
  expect(broker.counts.delivered).toBe(0);
  release();
  await expect.poll(() => [broker.counts.delivered, broker.holding()]).toEqual([1, 0]);
});

test("an event in structured mode is delivered in binary mode", async () => {
  const { broker, consumer } = await start();
  const event = {
    specversion: "1.0",
    id: "1",
    source: "/s",
    type: "dev.latchkey.audit.x",
    count: 2,
    data: [1, 2],
  };
  expect(
    await post(broker.url, { "content-type": "application/cloudevents+json" }, JSON.stringify(event)),
  ).toBe(202);
  expect(consumer.got[0]).toMatchObject({
    body: "[1,2]",
    headers: { "ce-type": event.type, "ce-count": "2" },
  });
});

test("batches, what is no event, other methods and other paths are refused and delivered nowhere", async () => {
  const { broker, consumer } = await start();
  const without = (name: string) =>
    post(broker.url, Object.fromEntries(Object.entries(HEADERS).filter(([key]) => key !== name)));
  const structured = (body: string) =>
    post(broker.url, { "content-type": "application/cloudevents+json" }, body);
  const origin = new URL(broker.url).origin;
  const refused = await Promise.all([
    post(broker.url, { ...HEADERS, "content-type": "application/cloudevents-batch+json" }, "[]"),
    ...["ce-specversion", "ce-id", "ce-source", "ce-type"].map(without),
    post(broker.url, { ...HEADERS, "ce-specversion": "0.3" }),
    post(broker.url, { ...HEADERS, "ce-not-allowed": "x" }),
    ...["", "{", "[]", "null", "{}"].map(structured),
    post(`${origin}/audit`),
  ]);
  expect(refused.filter((status) => status !== 400)).toEqual([]);
  expect(await post(`${origin}/`)).toBe(404);
  expect((await fetch(broker.url)).status).toBe(405);
  expect(consumer.got).toEqual([]);
  expect(broker.counts).toMatchObject({ accepted: 0, refused: refused.length + 2 });
});

test("events that the Trigger does not ask for are taken and delivered nowhere", async () => {
  const { broker, consumer } = await start();
  expect(await post(broker.url, { ...HEADERS, "ce-type": "dev.other" })).toBe(202);
  expect([consumer.got, broker.counts.filtered]).toEqual([[], 1]);
});

test.each([404, 408, 409, 429, 500, 502, 503, 599])(
  "%i is delivered again until it is taken",
  async (status) => {
    const { broker, consumer, letters } = await start((response, attempt) =>
      answered(attempt < 4 ? status : 204)(response, attempt),
    );
    expect(await post(broker.url)).toBe(202);
    expect([consumer.got.length, letters.got.length]).toEqual([4, 0]);
    expect(new Set(consumer.got.map(({ headers }) => headers["ce-id"])).size).toBe(1);
  },
);

test.each([301, 400, 401, 403, 410, 413, 415, 422])(
  "%i goes to the dead letter sink at once",
  async (status) => {
    const { broker, consumer, letters } = await start(answered(status, "because"));
    expect(await post(broker.url)).toBe(202);
    expect([consumer.got.length, letters.got.length]).toEqual([1, 1]);
    expect(letters.got[0]?.headers).toMatchObject({
      ...HEADERS,
      "ce-knativeerrordest": consumer.url,
      "ce-knativeerrorcode": String(status),
      "ce-knativeerrordata": Buffer.from("because").toString("base64"),
    });
    expect(broker.counts).toMatchObject({ deadLettered: 1, delivered: 0, lost: 0 });
  },
);

test("waits double from one delivery to the next, and there are no more deliveries than configured", async () => {
  const { broker, consumer, letters } = await start(answered(503), { retries: 4, backoffMs: 10 });
  expect(await post(broker.url)).toBe(202);
  const waits = consumer.got.slice(1).map(({ at }, i) => at - (consumer.got[i]?.at ?? 0));
  expect(waits).toHaveLength(4);
  // A timer can be a millisecond early by this clock; it is never early by half.
  expect(waits.filter((wait, n) => wait < 10 * 2 ** n - 2)).toEqual([]);
  expect(letters.got[0]?.headers["ce-knativeerrorcode"]).toBe("503");
});

test("a 2xx with a body that is no event counts as 502: delivered again, then a dead letter without a reason", async () => {
  const { broker, consumer, letters } = await start(answered(200, '{"ok":true}'), { retries: 2 });
  expect(await post(broker.url)).toBe(202);
  expect([consumer.got.length, letters.got.length]).toEqual([3, 1]);
  expect(errorsOf(letters.got[0]?.headers)).toEqual([]);
  const replying = await start(answered(200, "{}", { "content-type": "application/cloudevents+json" }));
  expect(await post(replying.broker.url)).toBe(202);
  expect(replying.broker.counts).toMatchObject({ delivered: 1, replies: 1 });
});

test("a consumer that breaks off, or is too slow, is asked again", async () => {
  // Far above what an answer takes here, which must not be too slow as well.
  const timeoutMs = 500;
  const broken = await start((response, n) => (n < 3 ? response.destroy() : response.writeHead(204).end()));
  expect(await post(broken.broker.url)).toBe(202);
  expect(broken.consumer.got).toHaveLength(3);
  const slow = await start((response, n) => n > 1 && response.writeHead(204).end(), { timeoutMs });
  expect(await post(slow.broker.url)).toBe(202);
  expect(slow.consumer.got).toHaveLength(2);
  const deaf = await start(() => {}, { timeoutMs, retries: 1 });
  expect(await post(deaf.broker.url)).toBe(202);
  expect([deaf.consumer.got.length, errorsOf(deaf.letters.got[0]?.headers)]).toEqual([2, []]);
});

test("a long error answer is cut to 1,024 characters of base64, and counted as what crashes the real channel", async () => {
  const { broker, letters } = await start(answered(400, "x".repeat(769)));
  await post(broker.url);
  expect(letters.got[0]?.headers["ce-knativeerrordata"]).toHaveLength(1_024);
  expect(broker.counts.oversizedErrors).toBe(1);
});

test("without a dead letter sink that takes it, a refused event is lost, and the producer is told 500", async () => {
  const consumer = await startConsumer(answered(400));
  const refusing = await startConsumer(answered(503));
  for (const sink of [{}, { deadLetterSink: refusing.url }]) {
    const broker = await startBroker({ subscriber: consumer.url, retries: 2, backoffMs: 1, ...sink });
    cleanUps.push(() => broker.kill());
    expect(await post(broker.url)).toBe(500);
    expect(broker.counts).toMatchObject({ lost: 1, deadLettered: 0, attempts: 1 });
  }
  expect(refusing.got).toHaveLength(3);
});

test("killed, it forgets what it held, answers nobody, delivers nothing more, and can come back at its address", async () => {
  const { broker, consumer } = await start(answered(503), { asyncHandler: true, backoffMs: 5 });
  for (let i = 0; i < 5; i += 1) expect(await post(broker.url)).toBe(202);
  const waiting = await start(() => {});
  const answer = post(waiting.broker.url).catch(() => "none");
  await expect.poll(() => waiting.consumer.got.length).toBe(1);
  await Promise.all([broker.kill(), waiting.broker.kill()]);
  expect(await answer).toBe("none");
  expect([broker.counts.lost, broker.holding(), waiting.broker.counts.lost]).toEqual([5, 0, 1]);
  await expect(post(broker.url)).rejects.toThrow();
  const { length } = consumer.got;
  // Takes 70 ms, in which a broker that were alive would have delivered again.
  await post((await start(answered(503), { retries: 3, backoffMs: 10 })).broker.url);
  const again = await start(answered(204), { port: broker.port });
  expect(again.broker.url).toBe(broker.url);
  expect(await post(again.broker.url)).toBe(202);
  expect([consumer.got.length, again.consumer.got.length]).toEqual([length, 1]);
});
