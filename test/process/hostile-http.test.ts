/** What a real HTTP server is sent by those who mean no good: over raw sockets, past every client's good manners. */
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, logIn, type Program, runScript, temporaryFolder, until } from "../support/process.ts";

let program: Program;
let origin: string;
let token: string;
const folder = temporaryFolder();

beforeAll(async () => {
  program = runScript("shared/node/dev/start.ts", { cwd: folder, env: { PORT: "0" } });
  [, origin = ""] = await program.says(/answers at (http:\S+\d)\b/);
  token = (await logIn(origin, "admin", "secret")).body.access_token;
});
afterAll(cleanUp);

/** Send these bytes on a connection of its own and read what comes until the other side ends. */
function raw(text: string, { hangUp = false } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(origin).port), "127.0.0.1", () => {
      if (hangUp) socket.end(text);
      else socket.write(text);
    });
    let answer = "";
    socket.setTimeout(10_000, () => socket.destroy(new Error("no answer")));
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("close", () => resolve(answer)).on("error", reject);
  });
}

const get = (path: string, host = "latchkey.test", headers = "") =>
  raw(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${headers}\r\n`);
const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

test.each(["1.2.3.4.5", "256.1.1.1", "0x1ffffffff", "09.1"])(
  "a Host that no URL can have: 400 as problem+json, logged like any other (%s)",
  async (host) => {
    const answer = await get("/data/x", host, "X-Request-Id: odd-host\r\n");
    expect(status(answer)).toBe(400);
    expect(answer).toMatch(/content-type: application\/problem\+json/i);
    expect(answer).toContain('"request_id":"odd-host"');
  },
);

test.each([
  "/data/../metrics",
  "/health/../metrics",
  "/data/%2e%2e/metrics",
  "/data/a/../b",
  "/./metrics",
  "\\metrics",
])("a path that others see differently is refused: %s", async (path) => {
  const answer = await get(path);
  expect([400, 404]).toContain(status(answer));
  expect(answer).not.toContain("latchkey_requests_total");
});

test("metrics and health answer under their own paths only", async () => {
  expect(status(await get("/metrics"))).toBe(200);
  for (const path of [
    "/%6detrics",
    "/%6D%65trics",
    "/health%2Freadiness",
    "/Metrics",
    "//metrics",
    "/metrics/",
  ]) {
    expect([path, status(await get(path))]).toEqual([path, 404]);
  }
});

test("the absolute form of a request target is taken, as RFC 9112 asks", async () => {
  expect(status(await get("http://latchkey.test/health"))).toBe(200);
});

test("a caller who goes away in the middle of a body is no error of ours", async () => {
  const before = program.stdout().length;
  await raw(
    "POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{}",
    {
      hangUp: true,
    },
  );
  const line = await until("the request's line in the log", () =>
    program
      .stdout()
      .slice(before)
      .split("\n")
      .find((one) => one.includes('"function":"token-issue"')),
  );
  expect(JSON.parse(line)).toMatchObject({ level: 30, status: 400, code: "malformed_request" });
});

test("a body that would cost the square of its length to check is answered while others are served", async () => {
  const number = `1${"0".repeat(250_000)}1`;
  const body = `{"key":"a","value":${number}}`;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const [heavy, light] = await Promise.all([
    fetch(`${origin}/data`, { method: "POST", headers, body }),
    fetch(`${origin}/health/liveness`),
  ]);
  expect([heavy.status, light.status]).toEqual([400, 200]);
});

test("without a credential nobody can make the server hold more than 32 KiB of a body", async () => {
  const answer = await raw(
    "POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 32769\r\nConnection: close\r\n\r\n",
  );
  expect(status(answer)).toBe(413);
});

test.each(["Content-Length: 300000", "Transfer-Encoding: chunked"])(
  "a body that is too large is in nobody's way: the next request on its connection is answered (%s)",
  async (length) => {
    const body = " ".repeat(300_000);
    const chunked = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    const post = (headers: string, content: string) =>
      `POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n${headers}\r\n\r\n${content}`;
    const answer = await raw(
      post(length, length.startsWith("Content") ? body : chunked) +
        post("Connection: close\r\nContent-Length: 2", "[]"),
    );
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, code]) => code)).toEqual(["413", "422"]);
  },
);

test("what is on disk is for its owner only", () => {
  const mode = (path: string) => statSync(join(folder, path)).mode & 0o777;
  expect(mode(".latchkey") & 0o077).toBe(0);
  expect(mode(".latchkey/redis") & 0o077).toBe(0);
  expect(mode(".latchkey/secrets.json")).toBe(0o600);
  expect(mode(".latchkey/redis/redis.sock") & 0o077).toBe(0);
});
