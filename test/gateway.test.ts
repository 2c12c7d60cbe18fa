/**
 * nginx with the generated configuration: what reaches which function, and what it answers by itself. That all of the API
 * works behind it the contract suite shows, which runs through it as a whole ("through nginx").
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { allowedMethods, eventRoutes, type Route, routes } from "../shared/routes.ts";
import { startNginx } from "./support/gateway.ts";
import { createHttpClient, type Incoming } from "./support/http-client.ts";
import { nginxBinary } from "./support/nginx-binary.ts";
import { cleanUp, until } from "./support/process.ts";

interface Seen {
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly headers: IncomingMessage["headers"];
}

/** In place of Knative's gateway. */
async function startUpstream() {
  const seen: Seen[] = [];
  const life = { answer: ok };
  const server = createServer((request, response) => {
    const { method = "", url = "", headers } = request;
    seen.push({ method, path: url, host: headers.host ?? "", headers });
    life.answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { seen, life, server, port: (server.address() as AddressInfo).port };
}

function ok(request: IncomingMessage, response: ServerResponse): void {
  request.resume().once("end", () => response.end());
}

const parametersFilled = (path: string): string => path.replaceAll(/\{\w+\}/g, "a%2Fb%252F%2f..");
const hostOf = (id: string): string => `${id}.latchkey.svc.cluster.local`;

function expectProblem({ status, headers, text: body }: Incoming, expected: number, code: string): void {
  expect([status, headers.get("content-type")]).toEqual([expected, "application/problem+json"]);
  const problem = JSON.parse(body);
  const type = `urn:latchkey:problem:${code.replaceAll("_", "-")}`;
  expect(problem).toMatchObject({ type, status, code });
  expect(headers.get("x-request-id")).toBe(problem.request_id);
  expect(headers.get("cache-control")).toBe("no-store");
}

if (nginxBinary() === undefined) {
  test.skip("nginx is not installed: neither its configuration nor the contract suite through it was tried", () => {});
} else {
  describe("nginx", behindNginx);
}

function behindNginx(): void {
  let upstream: Awaited<ReturnType<typeof startUpstream>>;
  let nginx: Awaited<ReturnType<typeof startNginx>>;
  let client: ReturnType<typeof createHttpClient>;

  beforeAll(async () => {
    upstream = await startUpstream();
    nginx = await startNginx(upstream.port);
    client = createHttpClient(nginx.origin);
  });
  beforeEach(() => {
    upstream.seen.length = 0;
    upstream.life.answer = ok;
  });
  afterAll(async () => {
    client.close();
    await nginx.stop();
    upstream.server.closeAllConnections();
    upstream.server.close();
    await cleanUp();
  });

  const send = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
    client.send({ method, path, headers: new Headers(headers), body });

  /** Send bytes as they are and read until the other side ends. */
  function raw(bytes: string): Promise<string> {
    const socket = connect(nginx.port, "127.0.0.1", () => socket.write(bytes));
    socket.setTimeout(10_000, () => socket.destroy(new Error("no answer")));
    return text(socket);
  }

  test.each(routes as readonly Route[])(
    "$id: its method and path reach it, byte for byte, and HEAD reaches what GET reaches",
    async ({ id, method, path }) => {
      const target = `${parametersFilled(path)}?a=%2F&b=c%20d`;
      for (const name of method === "GET" ? ["GET", "HEAD"] : [method]) {
        await send(name, target);
        expect(upstream.seen.at(-1)).toMatchObject({ method: name, path: target, host: hostOf(id) });
      }
    },
  );

  test.each([...new Set(routes.map(({ path }) => path))])(
    "OPTIONS, and what %s does not have, reach a function of that path",
    async (path) => {
      const hosts = routes.filter((route) => route.path === path).map(({ id }) => hostOf(id));
      for (const method of ["OPTIONS", "PATCH", "PURGE"]) {
        await send(method, parametersFilled(path));
        expect(hosts).toContain(upstream.seen.at(-1)?.host);
        expect(upstream.seen.at(-1)?.method).toBe(method);
      }
    },
  );

  test.each([
    ...[
      "/metrics",
      "/health",
      "/health/liveness",
      "/health/readiness",
      ...eventRoutes.map(({ path }) => path),
    ],
    ...[
      "/",
      "/nowhere",
      "/DATA",
      "/data/",
      "/data/a/b",
      "/data//a",
      "//data",
      "/audit/x",
      "/%64ata",
      "/token/",
    ],
    ...["/data/../metrics", "/data/a/../../metrics", "/data/%2e%2e/metrics", "/./metrics", "/x;/../metrics"],
  ])("%s is not public: 404, and no function is asked", async (path) => {
    for (const method of ["GET", "POST", "OPTIONS"])
      expectProblem(await send(method, path), 404, "not_found");
    expect(upstream.seen).toEqual([]);
  });

  test("the absolute form of a target is routed by its path", async () => {
    const get = (target: string) => raw(`GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    expect(await get("http://anything.example/data/a%2Fb")).toMatch(/^HTTP\/1\.1 200 /);
    expect(upstream.seen).toMatchObject([{ path: "/data/a%2Fb", host: hostOf("data-get") }]);
    expect(await get("http://anything.example/metrics")).toMatch(/^HTTP\/1\.1 404 /);
    expect(upstream.seen).toHaveLength(1);
  });

  test.each([
    ["a path that is not percent-encoded", () => send("GET", "/data/%zz")],
    ["a path that leads out of the root", () => send("GET", "/data/../../x")],
    ["a path that is too long", () => send("GET", `/data/${"x".repeat(9_000)}`)],
    ["headers that are too large", () => send("GET", "/data/a", { authorization: "x".repeat(9_000) })],
    ["an unknown transfer encoding", () => send("POST", "/data", { "transfer-encoding": "gzip" })],
  ])("%s: 400, by nginx itself", async (_, request) => {
    expectProblem(await request(), 400, "malformed_request");
    expect(upstream.seen).toEqual([]);
  });

  test("TRACE is refused, with what the path allows", async () => {
    for (const path of ["/data/a", "/audit"]) {
      const answer = await send("TRACE", path);
      expectProblem(answer, 405, "method_not_allowed");
      const template = path === "/audit" ? path : "/data/{key}";
      expect(answer.headers.get("allow")).toBe(allowedMethods(template).join(", "));
    }
    expect(upstream.seen).toEqual([]);
  });

  test("nothing that a caller sends can break a problem's JSON or headers", async () => {
    const odd = `/nowhere/"%0d%0aX:1\\"{}`;
    const answer = await raw(
      `GET ${odd} HTTP/1.1\r\nHost: "\r\nX-Request-Id: a"b\r\nConnection: close\r\n\r\n`,
    );
    const [head = "", body = ""] = answer.split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 40[04] /);
    expect(JSON.parse(body).request_id).toMatch(/^[0-9a-f]{32}$/);
    const named = await send("GET", `/nowhere/a%22b"c`, { "x-request-id": "mine-1" });
    expect(JSON.parse(named.text)).toMatchObject({ instance: "/", request_id: "mine-1" });
    expect(JSON.parse((await send("GET", "/nowhere/a%22b")).text)).toMatchObject({
      instance: "/nowhere/a%22b",
    });
  });

  test("what a caller says about its way ends here; the function learns host, scheme and address", async () => {
    await send("GET", "/data/a", {
      host: "api.example.com",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-host": "evil.example",
      "x-forwarded-proto": "gopher",
      "x-request-id": "mine-2",
      traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    });
    expect(upstream.seen[0]?.headers).toMatchObject({
      host: hostOf("data-get"),
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-host": "api.example.com",
      "x-forwarded-proto": "http",
      "x-request-id": "mine-2",
      traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    });
  });

  // All of 127.0.0.0/8 is this machine's on Linux alone.
  test.skipIf(process.platform !== "linux")("the address is the caller's own", async () => {
    const other = createHttpClient(nginx.origin, { localAddress: "127.0.0.2" });
    await other.send({ method: "GET", path: "/audit", headers: new Headers(), body: undefined });
    other.close();
    expect(upstream.seen[0]?.headers["x-forwarded-for"]).toBe("127.0.0.2");
  });

  test("a function's own error passes as it is", async () => {
    upstream.life.answer = (request, response) => {
      request.resume();
      response.writeHead(503, { "content-type": "application/problem+json", "retry-after": "7" }).end("{}");
    };
    const { status, headers, text: body } = await send("GET", "/data/a");
    expect([status, headers.get("retry-after"), body]).toEqual([503, "7", "{}"]);
  });

  test("a function that breaks off is not asked again: 503, and the caller may decide", async () => {
    upstream.life.answer = (request) => void request.socket.destroy();
    for (const method of ["GET", "PUT"]) {
      const answer = await send(method, "/data/a", {}, method === "PUT" ? "{}" : undefined);
      expectProblem(answer, 503, "function_unavailable");
      expect(answer.headers.get("retry-after")).toBe("1");
    }
    expect(upstream.seen.map(({ method }) => method)).toEqual(["GET", "PUT"]);
  });

  test("a body reaches the function while it is still being sent", async () => {
    const firstBytes = Promise.withResolvers<string>();
    upstream.life.answer = (request, response) => {
      request.once("data", (chunk) => firstBytes.resolve(String(chunk)));
      request.once("end", () => response.end());
    };
    const socket = connect(nginx.port, "127.0.0.1");
    socket.write("POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst");
    expect(await firstBytes.promise).toBe("first");
    socket.write("later");
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each(["with a length", "chunked"])(
    "a function that refuses a large body before its end is heard (%s)",
    async (how) => {
      upstream.life.answer = (request, response) => {
        request.once("data", () =>
          response.writeHead(413, { "content-type": "text/plain" }).end("too large"),
        );
        request.on("end", () => undefined);
      };
      const chunk = "x".repeat(64 * 1024);
      const stream = new ReadableStream({
        start(controller) {
          for (let i = 0; i < 64; i += 1) controller.enqueue(Buffer.from(chunk));
          controller.close();
        },
      });
      const headers = new Headers(how === "chunked" ? { "transfer-encoding": "chunked" } : {});
      const body = how === "chunked" ? stream : chunk.repeat(64);
      const { status, text: said } = await client.send({ method: "POST", path: "/data", headers, body });
      expect([status, said]).toEqual([413, "too large"]);
    },
  );

  test("a large answer arrives whole, and nothing of it is written to a disk", async () => {
    const large = "0123456789abcdef".repeat(256 * 1024);
    upstream.life.answer = (_, response) => void response.end(large);
    expect((await send("GET", "/data/a")).text === large).toBe(true);
  });

  test("a request leaves a line in the log, without its path, query and credential", async () => {
    upstream.life.answer = (_, response) =>
      response.writeHead(201, { "x-request-id": "functions-own" }).end();
    await send("POST", "/data?key=secret-key", { authorization: "Bearer secret-token" });
    const line = await until("the line", () =>
      nginx
        .accessLog()
        .split("\n")
        .find((one) => one.includes("functions-own")),
    );
    expect(JSON.parse(line)).toMatchObject({ function: "data-create", method: "POST", status: 201 });
    expect(nginx.accessLog()).not.toContain("secret");
  });
}
