/** Dead letters: what nobody could deliver is kept with its reason, whatever it is, and can be sent again. */
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  MAX_LETTER_BYTES,
  newAttempt,
  readDeadLetter,
  reasonClass,
  reasonOf,
} from "../shared/dead-letter.ts";
import { toEvents } from "../shared/events.ts";
import { encodeEvent } from "../shared/node/cloud-events.ts";
import { createDeadLetters, type KeptLetter } from "../shared/redis/dead-letters.ts";
import { startDouble, type TestLoki } from "./support/loki.ts";
import { entriesOf } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";

let loki: TestLoki;
let pipeline: Awaited<ReturnType<typeof startPipeline>>;
let letters: ReturnType<typeof createDeadLetters>;
beforeAll(async () => {
  loki = await startDouble({});
  pipeline = await startPipeline(loki.url, { retries: 1 });
  letters = createDeadLetters(pipeline.api.store);
});
afterAll(async () => {
  await pipeline?.stop();
  await loki?.stop();
});
beforeEach(() => pipeline.api.redis.del("dead-letters"));

async function kept(count = 10_000): Promise<KeptLetter[]> {
  const all: KeptLetter[] = [];
  for await (const letter of letters.newest(count)) all.push(letter);
  return all;
}

/** An event of ours, as a producer sends it to the broker. */
async function publish(tenantId: string, change: Record<string, string> = {}) {
  const [event] = toEvents("/functions/test", entriesOf(tenantId, 1));
  if (event === undefined) throw new Error("no event");
  const { headers, body } = await encodeEvent(event);
  const response = await fetch(pipeline.sink.url, {
    method: "POST",
    headers: { ...headers, ...change },
    body,
  });
  return { status: response.status, id: String(event.attributes.id), body };
}

/** What the Broker does with a dead letter. */
async function deliver(body: BodyInit, headers: Record<string, string> = {}) {
  const response = await fetch(`${pipeline.ship.origin}/events/audit-dead-letter`, {
    method: "POST",
    headers,
    body,
    ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
  } as RequestInit);
  expect([response.status, await response.text()]).toEqual([204, ""]);
  const [letter] = await kept(1);
  if (letter === undefined) throw new Error("nothing is kept");
  return letter;
}

const metrics = async () => (await fetch(`${pipeline.ship.origin}/metrics`)).text();
const metric = async (name: string) =>
  Number(
    (await metrics())
      .split("\n")
      .find((line) => line.startsWith(`${name} `))
      ?.split(" ")[1] ?? 0,
  );

const EVENT = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "dev.latchkey.audit.x" };

test("an event that audit-ship refuses is kept with its reason, its attributes and its body", async () => {
  const refused = 'latchkey_dead_letters_total{reason="refused"}';
  const before = await metric(refused);
  const { status, id, body } = await publish("nobody-knows-me");
  expect(status).toBe(202);
  const [letter, ...others] = await kept();
  expect(others).toEqual([]);
  expect(letter).toMatchObject({
    attributes: { id, specversion: "1.0", subject: "nobody-knows-me", count: "1" },
    ...{ contentType: "application/json", encoding: "utf-8", body, bytes: body.length, cut: false },
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  });
  expect(Math.abs(Date.parse(letter?.at ?? "") - Date.now())).toBeLessThan(60_000);
  expect(letter && reasonOf(letter)).toEqual({
    destination: `${pipeline.ship.origin}/events/audit-ship`,
    code: 400,
    text: expect.stringContaining("unknown_tenant"),
  });
  expect(await metric(refused)).toBe(before + 1);
  expect(await metric("latchkey_dead_letters")).toBe(1);
});

test("an event that is put right reaches Loki when it is sent again", async () => {
  const tenant = await pipeline.api.tenant();
  // The number of its entry is given out.
  await pipeline.api.redis.hset(tenant.keys.tenant, "seq", 1);
  await publish(tenant.id, { "ce-subject": "somebody-else" });
  const [letter] = await kept();
  if (letter === undefined) throw new Error("nothing is kept");
  const healed = newAttempt({ ...letter, attributes: { ...letter.attributes, subject: tenant.id } });
  if ("refused" in healed) throw new Error(healed.refused);
  expect(Object.keys(healed.headers).filter((name) => name.startsWith("ce-knative"))).toEqual([]);
  const { status } = await fetch(pipeline.sink.url, { method: "POST", ...healed });
  expect([status, healed.attempt]).toEqual([202, 2]);
  await expect.poll(() => pipeline.loki.tenant(tenant.id).seqs()).toEqual([1]);
});

test("what is refused again comes back as its next attempt, and as the same event", async () => {
  const { id } = await publish("nobody-knows-me");
  for (const attempt of [2, 3]) {
    const [letter] = await kept();
    if (letter === undefined) throw new Error("nothing is kept");
    const again = newAttempt(letter);
    if ("refused" in again) throw new Error(again.refused);
    expect(await fetch(pipeline.sink.url, { method: "POST", ...again })).toMatchObject({ status: 202 });
    expect(await letters.remove(letter.id)).toBe(true);
    expect(await letters.remove(letter.id)).toBe(false);
    expect(await kept()).toMatchObject([{ attributes: { id, attempt: String(attempt) } }]);
  }
});

test("an event in structured mode is kept in the form of binary mode", async () => {
  const event = {
    specversion: "1.0",
    id: "1",
    source: "/s",
    type: "t",
    subject: "é %",
    count: 1,
    time: null,
  };
  const headers = { "content-type": "application/cloudevents+json; charset=utf-8" };
  const attributes = {
    specversion: "1.0",
    id: "1",
    source: "/s",
    type: "t",
    subject: "%C3%A9%20%25",
    count: "1",
  };
  const asJson = await deliver(JSON.stringify({ ...event, data: [1, "\ud800"] }), headers);
  expect(asJson).toMatchObject({ attributes, contentType: "application/json", body: '[1,"\\ud800"]' });
  const asBytes = await deliver(
    JSON.stringify({ ...event, datacontenttype: "x/y", data_base64: "/wA=" }),
    headers,
  );
  expect(asBytes).toMatchObject({ attributes, contentType: "x/y", body: "/wA=", encoding: "base64" });
  expect(newAttempt(asBytes)).toMatchObject({ body: new Uint8Array([255, 0]) });
});

test.each<[string, BodyInit, Record<string, string>, object]>([
  ["nothing at all", "", {}, { body: "", bytes: 0 }],
  ["text", "oops", { "content-type": "text/plain" }, { body: "oops", contentType: "text/plain" }],
  [
    "bytes that are no UTF-8",
    new Uint8Array([255, 0, 254]),
    {},
    { body: "/wD+", encoding: "base64", bytes: 3 },
  ],
  ["a byte order mark", "\ufeff{}", {}, { body: "\ufeff{}", bytes: 5 }],
  ["JSON that is no event", "[1]", { "content-type": "application/cloudevents+json" }, { body: "[1]" }],
  ["half a structured event", "{", { "content-type": "application/cloudevents+json" }, { body: "{" }],
  [
    "a structured event with a name that no attribute has",
    '{"specversion":"1.0","id":"1","source":"s","type":"t","a\\r\\nb":1}',
    { "content-type": "application/cloudevents+json" },
    { attributes: {}, contentType: "application/cloudevents+json" },
  ],
  [
    "a structured event nested more deeply than can be written again",
    `{"specversion":"1.0","id":"1","source":"s","type":"t","data":${"[".repeat(50_000)}${"]".repeat(50_000)}}`,
    { "content-type": "application/cloudevents+json" },
    { attributes: {}, contentType: "application/cloudevents+json", cut: false },
  ],
  [
    "a structured event with an attribute that no text can stand for",
    '{"specversion":"1.0","id":{"toString":1},"source":"b","type":"t"}',
    { "content-type": "application/cloudevents+json" },
    { attributes: {}, contentType: "application/cloudevents+json" },
  ],
  [
    "a structured event with a media type that no header can hold",
    '{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"a\\r\\nb: c","data":1}',
    { "content-type": "application/cloudevents+json" },
    { attributes: {}, contentType: "application/cloudevents+json" },
  ],
  ["attributes without an event", "", { "ce-id": "1" }, { attributes: { id: "1" } }],
])("%s is kept, and not sent again", async (_, body, headers, expected) => {
  const letter = await deliver(body, headers);
  expect(letter).toMatchObject(expected);
  expect([reasonClass(letter), newAttempt(letter)]).toEqual([
    "not_an_event",
    { refused: "it is no CloudEvent" },
  ]);
});

test("whatever JSON comes as a structured event, its letter is made without an error and holds the body", () => {
  const name = fc.constantFrom("specversion", "id", "source", "type", "data", "data_base64", "__proto__");
  const odd = fc.dictionary(fc.constantFrom("toString", "valueOf", "toJSON"), fc.jsonValue());
  const event = fc.dictionary(fc.oneof(name, fc.string()), fc.oneof(fc.jsonValue(), odd));
  const headers = new Headers({ "content-type": "application/cloudevents+json" });
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), event), (json) => {
      const bytes = new TextEncoder().encode(JSON.stringify(json));
      const letter = readDeadLetter(headers, { bytes, length: bytes.length });
      const isWhole = letter.contentType === "application/cloudevents+json";
      if (isWhole) expect(letter.body).toBe(JSON.stringify(json));
      expect(Object.values(letter.attributes).every((value) => typeof value === "string")).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test("of a body that is too large the beginning is kept, which is not sent again", async () => {
  const text = `x${"é".repeat(MAX_LETTER_BYTES)}`;
  const stream = () => new Blob([text]).stream();
  for (const body of [text, stream()]) {
    const letter = await deliver(body, EVENT);
    expect(letter).toMatchObject({ bytes: 2 * MAX_LETTER_BYTES + 1, cut: true, encoding: "utf-8" });
    expect(letter.body).toBe(text.slice(0, MAX_LETTER_BYTES / 2));
    expect(newAttempt(letter)).toMatchObject({ refused: expect.stringContaining("only the first 262144") });
  }
  const whole = await deliver("x".repeat(MAX_LETTER_BYTES), EVENT);
  expect([whole.cut, "refused" in newAttempt(whole)]).toEqual([false, false]);
});

test("beyond the bound the oldest go, are counted, and the newest are listed first, page by page", async () => {
  const few = createDeadLetters(pipeline.api.store, 25);
  const dropped: number[] = [];
  for (let i = 0; i < 27; i += 1) {
    const headers = new Headers({ ...EVENT, "ce-id": String(i) });
    dropped.push(await few.keep(readDeadLetter(headers, { bytes: new Uint8Array(), length: 0 })));
  }
  expect(dropped).toEqual([...Array<number>(25).fill(0), 1, 1]);
  expect(await few.count()).toBe(25);
  const ids = (all: KeptLetter[]) => all.map(({ attributes }) => Number(attributes["id"]));
  expect(ids(await kept())).toEqual(Array.from({ length: 25 }, (_, i) => 26 - i));
  expect(ids(await kept(12))).toEqual(Array.from({ length: 12 }, (_, i) => 26 - i));
});

test.each([
  ["400", "refused"],
  ["302", "refused"],
  ["404", "exhausted"],
  ["429", "exhausted"],
  ["503", "exhausted"],
  ["-1", "exhausted"],
  ["", "unexplained"],
  ["soon", "unexplained"],
])("what is delivered no more after the status %j is %s", (code, expected) => {
  const headers = new Headers({ ...EVENT, "ce-knativeerrorcode": code });
  expect(reasonClass(readDeadLetter(headers, { bytes: new Uint8Array(), length: 0 }))).toBe(expected);
});

test.each([
  ["base64", btoa("no such tenant"), "no such tenant"],
  ["base64 that was cut inside a character", "w6nD", "é"],
  ["the text itself", "no such tenant", "no such tenant"],
  ["text that looks like base64", "oops", "oops"],
  ["a text without an end", "x".repeat(8_000), "x".repeat(4_096)],
])("an error's data can be %s", (_, data, text) => {
  const headers = new Headers({ ...EVENT, "ce-knativeerrordata": data });
  expect(reasonOf(readDeadLetter(headers, { bytes: new Uint8Array(), length: 0 }))).toEqual({ text });
});

test("a letter that cannot be stored is not answered as if it were: the Broker delivers it again", async () => {
  const { redis } = pipeline.api;
  await redis.set("dead-letters", "not a stream");
  const response = await fetch(`${pipeline.ship.origin}/events/audit-dead-letter`, {
    method: "POST",
    headers: EVENT,
  });
  await response.text();
  // Delivered again, as every 5xx.
  expect(response.status).toBe(500);
});
