/** Where a request comes from, in one spelling per address. */

/** Addresses that begin with the same bits, as `10.244.0.0/16` names them. */
export interface Network {
  /** 16 bits each: two for IPv4, eight for IPv6. */
  readonly words: readonly number[];
  readonly bits: number;
}

/**
 * The proxies in front that append to X-Forwarded-For: how many there are (0: believe the socket alone), or from which
 * networks they come, where their number differs from request to request.
 */
export type TrustedProxies = number | readonly Network[];

/** Proxies that one request may have come through; more are somebody's invention. */
const MAX_HOPS = 16;

/** The address that the outermost trusted proxy saw; what lies left of it in X-Forwarded-For anybody can invent. */
export function sourceAddress(
  socket: string | undefined,
  forwardedFor: string | undefined,
  trusted: TrustedProxies,
): string | undefined {
  const peer = socket === undefined ? undefined : normalAddress(socket);
  if (trusted === 0) return peer;
  const hops = (forwardedFor ?? "").split(",");
  if (typeof trusted === "number") {
    const seen = hops.at(-trusted)?.trim();
    return (seen === undefined ? undefined : normalAddress(seen)) ?? peer;
  }
  let seen = peer;
  for (const hop of hops.slice(-MAX_HOPS).reverse()) {
    const next = normalAddress(hop.trim());
    if (seen === undefined || next === undefined || !isIn(trusted, seen)) break;
    seen = next;
  }
  return seen;
}

/** @returns undefined for anything that is not `<address>/<bits>` with no bit set behind those */
export function parseNetwork(text: string): Network | undefined {
  const [, start, digits] = /^([\da-f:.]{2,45})\/(\d{1,3})$/i.exec(text) ?? [];
  const address = start === undefined ? undefined : normalAddress(start);
  if (address === undefined) return undefined;
  const words = wordsOf(address);
  const bits = Number(digits);
  if (bits > words.length * 16) return undefined;
  return words.every((word, at) => (word & (0xffff >> bitsOf(bits, at))) === 0) ? { words, bits } : undefined;
}

function isIn(networks: readonly Network[], address: string): boolean {
  const words = wordsOf(address);
  return networks.some(
    (network) =>
      network.words.length === words.length &&
      network.words.every(
        (word, at) => (word ^ (words[at] as number)) >> (16 - bitsOf(network.bits, at)) === 0,
      ),
  );
}

/** How many of a network's bits are in its word at this place. */
const bitsOf = (bits: number, at: number): number => Math.min(16, Math.max(0, bits - 16 * at));

function wordsOf(address: string): number[] {
  if (address.includes(":")) return groupsOf(address).map((group) => Number.parseInt(group, 16));
  const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
  return [a * 256 + b, c * 256 + d];
}

/** An IPv4 or IPv6 address without port and zone, IPv6 as RFC 5952 writes it; undefined for anything else. */
function normalAddress(text: string): string | undefined {
  const v4 = /^(?:::ffff:)?((?:\d{1,3}\.){3}\d{1,3})(?::\d{1,5})?$/i.exec(text)?.[1];
  if (v4 !== undefined) return v4.split(".").every((byte) => Number(byte) <= 255) ? v4 : undefined;
  const v6 = /^\[?([0-9a-f:.]{2,45})(?:%\w+)?(?:\](?::\d{1,5})?)?$/i.exec(text)?.[1];
  // The URL parser knows how an IPv6 address is written (WHATWG URL, 4.5).
  return v6?.includes(":") ? URL.parse(`http://[${v6}]`)?.hostname.slice(1, -1) : undefined;
}

/** The eight groups of an IPv6 address, those that `::` leaves out too. */
function groupsOf(address: string): string[] {
  const [left = [], right = []] = address.split("::").map((side) => side.split(":").filter(Boolean));
  return [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
}

/** What failed logins are counted by: an IPv4 address, or the /64 that one IPv6 customer has. */
export const addressGroup = (address: string): string =>
  address.includes(":") ? groupsOf(address).slice(0, 4).join(":") : address;
