/**
 * Events that nobody could deliver, with what Knative says about why: `knativeerrordest`, `knativeerrorcode` and
 * `knativeerrordata`, all of which may be absent. Whatever arrives can be read: this is the last stop.
 */
import { toHeaderValue } from "./events.ts";
import { byteLength } from "./formats.ts";

/** Of a body. Events of ours have 64 KiB at most, but for one with a lone larger entry. */
export const MAX_LETTER_BYTES = 256 * 1024;
/** Of all attributes: what Node takes as headers. */
const MAX_ATTRIBUTE_BYTES = 16 * 1024;
/** Of an error: Knative sends 1,024 characters of base64. */
const MAX_ERROR_CHARACTERS = 4_096;

/** Attributes that Knative adds on the way, and that a new attempt begins without. */
const ADDED_ON_THE_WAY = ["knativearrivaltime", "knativeerrordest", "knativeerrorcode", "knativeerrordata"];
/** Extension attribute of an event that was sent again: which attempt it is. */
const ATTEMPT = "attempt";

export interface DeadLetter {
  /** As HTTP headers carry them, without `ce-`; empty when this is no CloudEvent in any form. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly body: string;
  /** What `body` is of the bytes that came: themselves, or base64 where they are not UTF-8. */
  readonly encoding: "utf-8" | "base64";
  /** Bytes that came; more than are kept when the body was cut off. */
  readonly bytes: number;
  readonly cut: boolean;
}

interface Body {
  readonly bytes: Uint8Array;
  /** Of the whole body, of which `bytes` may be the beginning. */
  readonly length: number;
}

/** Read whatever has come. Never throws. */
export function readDeadLetter(headers: Headers, { bytes, length }: Body): DeadLetter {
  const contentType = (headers.get("content-type") ?? "").slice(0, 256);
  const cut = length > bytes.length;
  const size = { bytes: length, cut };
  const text = toText(bytes, cut);
  const structured =
    !cut && text !== undefined && /^application\/cloudevents\+json\b/i.test(contentType)
      ? readStructured(text)
      : undefined;
  if (structured !== undefined) return { ...structured, ...size };
  const attributes = [...headers]
    .filter(([name]) => name.startsWith("ce-"))
    .map(([name, value]) => [name.slice(3), value] as const);
  const content =
    text === undefined
      ? ({ body: toBase64(bytes), encoding: "base64" } as const)
      : ({ body: text, encoding: "utf-8" } as const);
  return { attributes: bounded(attributes), contentType, ...content, ...size };
}

/** Undefined when it is not UTF-8; of a body that was cut off, without a last character that is incomplete. */
function toText(bytes: Uint8Array, cut: boolean): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: cut });
  } catch {
    return undefined;
  }
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

const toBase64 = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

/** As many attributes as there is room for. */
function bounded(attributes: readonly (readonly [string, string])[]): Record<string, string> {
  let room = MAX_ATTRIBUTE_BYTES;
  const fitting = attributes.filter(([name, value]) => {
    room -= byteLength(name) + byteLength(value);
    return room >= 0;
  });
  return Object.fromEntries(fitting);
}

/** An event that is one JSON text, in the form that binary mode gives it; undefined when it is none, or cannot be told. */
function readStructured(text: string) {
  try {
    return toBinary(JSON.parse(text));
  } catch {
    // Not JSON, or nested more deeply than can be written again.
    return undefined;
  }
}

/** Whether a media type can be sent as it is: a header has no line breaks, and the ends of its value are no spaces. */
const isHeaderValue = (value: unknown): value is string =>
  typeof value === "string" && /^[!-~](?:[ -~]{0,254}[!-~])?$/.test(value);

function toBinary(event: unknown) {
  if (typeof event !== "object" || event === null || Array.isArray(event)) return undefined;
  const {
    data,
    data_base64,
    datacontenttype = "application/json",
    ...rest
  } = event as Record<string, unknown>;
  const all = Object.entries(rest).filter(([, value]) => value !== null);
  const attributes = bounded(all.map(([name, value]) => [name, toHeaderValue(String(value))]));
  const isComplete = Object.keys(attributes).length === all.length;
  const isAttribute = ([name, value]: [string, unknown]): boolean =>
    /^[a-z0-9]{1,64}$/.test(name) && ["string", "number", "boolean"].includes(typeof value);
  if (!isComplete || !all.every(isAttribute) || !isHeaderValue(datacontenttype)) return undefined;
  const common = { attributes, contentType: datacontenttype };
  if (typeof data_base64 === "string") return { ...common, body: data_base64, encoding: "base64" as const };
  const isText = typeof data === "string" && !/\bjson\b/i.test(datacontenttype);
  const body = data === undefined ? "" : isText ? data : JSON.stringify(data);
  return { ...common, body, encoding: "utf-8" as const };
}

/** Why an event became a dead letter, as Knative told. */
export function reasonOf({ attributes }: DeadLetter) {
  const { knativeerrordest: destination, knativeerrorcode, knativeerrordata } = attributes;
  const code = /^-?\d{1,5}$/.test(knativeerrorcode ?? "") ? Number(knativeerrorcode) : undefined;
  const text = knativeerrordata === undefined ? undefined : errorText(knativeerrordata);
  return {
    ...(destination === undefined ? {} : { destination }),
    ...(code === undefined ? {} : { code }),
    ...(text === undefined ? {} : { text }),
  };
}

/** knativeerrordata is the beginning of base64, or, from other channels, the text itself. */
function errorText(data: string): string {
  const sent = data.slice(0, MAX_ERROR_CHARACTERS);
  const bytes = fromBase64(sent.slice(0, sent.length - (sent.length % 4)));
  const text = bytes === undefined ? undefined : toText(bytes, true);
  return text ? text : sent;
}

/**
 * For metrics: `refused` by a status that Knative does not retry, `exhausted` after the last retry, `unexplained` for
 * want of a status, or `not_an_event` at all.
 */
export type ReasonClass = "refused" | "exhausted" | "unexplained" | "not_an_event";

export function reasonClass(letter: DeadLetter): ReasonClass {
  if (!isEvent(letter)) return "not_an_event";
  const { code } = reasonOf(letter);
  if (code === undefined) return "unexplained";
  const isRefused = code >= 300 && code < 500 && ![404, 408, 409, 429].includes(code);
  return isRefused ? "refused" : "exhausted";
}

const isEvent = ({ attributes }: DeadLetter): boolean =>
  attributes["specversion"] === "1.0" && ["id", "source", "type"].every((name) => attributes[name]);

interface Attempt {
  readonly headers: Record<string, string>;
  readonly body: string | Uint8Array<ArrayBuffer>;
  /** Which one this is, the first delivery being 1. */
  readonly attempt: number;
}

/** The request in binary mode that sends a letter's event again, as the same event: consumers know it by its id. */
export function newAttempt(letter: DeadLetter): Attempt | { readonly refused: string } {
  if (!isEvent(letter)) return { refused: "it is no CloudEvent" };
  if (letter.cut)
    return { refused: `of its ${letter.bytes} bytes only the first ${MAX_LETTER_BYTES} are kept` };
  const body = letter.encoding === "base64" ? fromBase64(letter.body) : letter.body;
  if (body === undefined) return { refused: "its data_base64 is no base64" };
  const attributes = Object.entries(letter.attributes).filter(([name]) => !ADDED_ON_THE_WAY.includes(name));
  const before = Number(letter.attributes[ATTEMPT]);
  const attempt = Number.isSafeInteger(before) && before > 1 ? before + 1 : 2;
  const headers = {
    ...Object.fromEntries(attributes.map(([name, value]) => [`ce-${name}`, value])),
    [`ce-${ATTEMPT}`]: String(attempt),
    ...(letter.contentType === "" ? {} : { "content-type": letter.contentType }),
  };
  return { headers, body, attempt };
}
