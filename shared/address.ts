/** Where a request comes from, in one spelling per address. */

/**
 * The address that the outermost trusted proxy saw; what lies left of it in X-Forwarded-For anybody can invent.
 * @param socket the peer's own address
 * @param trustedProxies how many proxies in front append to X-Forwarded-For; 0: believe the socket alone
 */
export function sourceAddress(
  socket: string | undefined,
  forwardedFor: string | undefined,
  trustedProxies: number,
): string | undefined {
  const peer = socket === undefined ? undefined : normalAddress(socket);
  if (trustedProxies === 0) return peer;
  const seen = (forwardedFor ?? "").split(",").at(-trustedProxies)?.trim();
  return (seen === undefined ? undefined : normalAddress(seen)) ?? peer;
}

/** An IPv4 or IPv6 address without port and zone, IPv6 as RFC 5952 writes it; undefined for anything else. */
function normalAddress(text: string): string | undefined {
  const v4 = /^(?:::ffff:)?((?:\d{1,3}\.){3}\d{1,3})(?::\d{1,5})?$/i.exec(text)?.[1];
  if (v4 !== undefined) return v4.split(".").every((byte) => Number(byte) <= 255) ? v4 : undefined;
  const v6 = /^\[?([0-9a-f:.]{2,45})(?:%\w+)?(?:\](?::\d{1,5})?)?$/i.exec(text)?.[1];
  // The URL parser knows how an IPv6 address is written (WHATWG URL, 4.5).
  return v6?.includes(":") ? URL.parse(`http://[${v6}]`)?.hostname.slice(1, -1) : undefined;
}

/** What failed logins are counted by: an IPv4 address, or the /64 that one IPv6 customer has. */
export function addressGroup(address: string): string {
  if (!address.includes(":")) return address;
  const [left = "", right = ""] = address.split("::");
  const groups = left.split(":");
  const rest = right.split(":");
  const zeros = address.includes("::") ? 8 - groups.filter(Boolean).length - rest.filter(Boolean).length : 0;
  return [...groups.filter(Boolean), ...Array(zeros).fill("0"), ...rest.filter(Boolean)]
    .slice(0, 4)
    .join(":");
}
