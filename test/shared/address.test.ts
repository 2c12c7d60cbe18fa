/** Where a request comes from, and what a caller cannot make us believe. */
import { expect, test } from "vitest";
import { addressGroup, type Network, parseNetwork, sourceAddress } from "../../shared/address.ts";

const networks = (...texts: readonly string[]): Network[] =>
  texts.map((text) => parseNetwork(text) ?? expect.fail(`${text} is no network`));

test.each([
  [0, "9.9.9.9", "1.1.1.1"],
  [1, "8.8.8.8, 9.9.9.9", "9.9.9.9"],
  [2, "8.8.8.8, 9.9.9.9", "8.8.8.8"],
  [2, "9.9.9.9", "1.1.1.1"],
  [1, "nonsense", "1.1.1.1"],
  [1, undefined, "1.1.1.1"],
])("behind %i proxies X-Forwarded-For %j speaks of %s", (trusted, forwardedFor, source) => {
  expect(sourceAddress("1.1.1.1", forwardedFor, trusted)).toBe(source);
});

/** Of a pod, as a Knative function sees it: the queue-proxy beside it is at 127.0.0.1. */
const cluster = networks("127.0.0.0/8", "10.244.0.0/16", "fd00:10:244::/56");

test("a function behind Knative finds the caller, whether or not the activator was on the way", () => {
  for (const way of ["10.244.1.7", "10.244.1.7, 10.244.2.9"]) {
    expect(sourceAddress("127.0.0.1", `9.9.9.9, ${way}`, cluster)).toBe("9.9.9.9");
    expect(sourceAddress("::ffff:127.0.0.1", `2001:db8::1, ${way}`, cluster)).toBe("2001:db8::1");
  }
  expect(sourceAddress("127.0.0.1", "2001:DB8::1, fd00:10:244:ff::9", cluster)).toBe("2001:db8::1");
});

test.each([
  ["9.9.9.9", "what a caller from outside says of itself"],
  ["10.244.1.1, 9.9.9.9", "and of proxies that it names"],
  ["127.0.0.1, ::1, 9.9.9.9", "or of this machine"],
])("%s, %s, is not believed", (left) => {
  expect(sourceAddress("127.0.0.1", `${left}, 8.8.8.8, 10.244.1.7`, cluster)).toBe("8.8.8.8");
  expect(sourceAddress("8.8.8.8", left, cluster)).toBe("8.8.8.8");
});

test("what is no address ends the search at the proxy that passed it on", () => {
  expect(sourceAddress("127.0.0.1", "9.9.9.9, unknown, 10.244.1.7", cluster)).toBe("10.244.1.7");
  expect(sourceAddress("127.0.0.1", "unknown", cluster)).toBe("127.0.0.1");
  expect(sourceAddress("127.0.0.1", undefined, cluster)).toBe("127.0.0.1");
  expect(sourceAddress(undefined, "9.9.9.9", cluster)).toBe(undefined);
});

test("a caller inside those networks is found too, and a list without end is not followed", () => {
  expect(sourceAddress("127.0.0.1", "10.244.3.3, 10.244.1.7", cluster)).toBe("10.244.3.3");
  const endless = `9.9.9.9, ${Array(1_000).fill("10.244.1.1").join(", ")}`;
  expect(sourceAddress("127.0.0.1", endless, cluster)).toBe("10.244.1.1");
});

test.each([
  ["10.0.0.0/8", "10.255.255.255", "11.0.0.0"],
  ["172.16.0.0/12", "172.31.255.255", "172.32.0.0"],
  ["192.168.1.128/25", "192.168.1.255", "192.168.1.127"],
  ["9.9.9.9/32", "9.9.9.9", "9.9.9.8"],
  ["fe80::/10", "febf::1", "fec0::1"],
  ["2001:db8:0:80::/57", "2001:db8:0:ff::1", "2001:db8:0:100::1"],
  ["::1/128", "::1", "::2"],
])("%s holds %s and not %s", (network, inside, outside) => {
  expect(sourceAddress(inside, "7.7.7.7", networks(network))).toBe("7.7.7.7");
  expect(sourceAddress(outside, "7.7.7.7", networks(network))).toBe(outside);
});

test("a network holds addresses of its own version only", () => {
  expect(sourceAddress("::1", "7.7.7.7", networks("0.0.0.0/0"))).toBe("::1");
  expect(sourceAddress("1.1.1.1", "7.7.7.7", networks("::/0"))).toBe("1.1.1.1");
});

test("failed logins are counted by IPv4 address and by the /64 of an IPv6 address", () => {
  expect(["1.2.3.4", "2001:db8::1", "2001:db8:1:2:3:4:5:6", "::1", "1::"].map(addressGroup)).toEqual([
    "1.2.3.4",
    "2001:db8:0:0",
    "2001:db8:1:2",
    "0:0:0:0",
    "1:0:0:0",
  ]);
});
