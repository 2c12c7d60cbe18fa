/** In bundles, what stands for the classes of Node's fetch until one of them is needed. */
import { expect, test } from "vitest";
import { lateFetch } from "../shared/node/late-fetch.ts";

test("before the first is made nothing is an instance, and nobody asks the real class", () => {
  for (const one of [{}, null, "text", new Map()]) expect(one instanceof lateFetch.Headers).toBe(false);
  expect(Object.getPrototypeOf(lateFetch.Headers)).toBe(Function.prototype);
});

test("before that, what inherits from it is an instance, as the light classes of @hono/node-server are", () => {
  const light = Object.create(lateFetch.Headers.prototype);
  expect([light instanceof lateFetch.Headers, light instanceof Headers]).toEqual([true, false]);
  const real = new lateFetch.Headers();
  expect(light instanceof Headers).toBe(true);
  expect(Object.getPrototypeOf(lateFetch.Headers)).toBe(Headers);
  expect(Object.getPrototypeOf(real)).toBe(Headers.prototype);
});

test("what is made is of the real class, and either class takes it for its own", () => {
  const headers = new lateFetch.Headers({ "X-A": "b" });
  expect(headers.get("x-a")).toBe("b");
  expect([headers instanceof Headers, headers instanceof lateFetch.Headers]).toEqual([true, true]);
  expect(new Headers() instanceof lateFetch.Headers).toBe(true);
  expect({} instanceof lateFetch.Headers).toBe(false);
});

test("a class that extends it before the real one is loaded makes real ones", async () => {
  class Early extends lateFetch.Request {}
  const request = new Early("http://a/", { method: "POST", body: "text" });
  expect(await request.text()).toBe("text");
  for (const one of [Early, lateFetch.Request, Request]) expect(request instanceof one).toBe(true);
});

test("static functions are there once the real class is", () => {
  expect(new lateFetch.Response("x").status).toBe(200);
  expect(lateFetch.Response.json({}).headers.get("content-type")).toBe("application/json");
});
