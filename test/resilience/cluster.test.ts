/** What the resilience run tells kubectl and what it makes of the answers, tried with a kubectl that writes down what it is told. */
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { pushBody } from "../../shared/loki.ts";
import { createLokiClient } from "../../shared/node/loki-client.ts";
import { startDouble } from "../support/loki.ts";
import { entriesOf } from "../support/loki-tools.ts";
import { clusterTarget } from "./cluster.ts";

/** Says what the variables say that are named after its commands, and forwards to the port in FORWARD until it is ended. */
const KUBECTL = `#!${process.execPath}
const { appendFileSync } = require("node:fs");
const [, context, , namespace, command, ...rest] = process.argv.slice(2);
appendFileSync(process.env.CALLS, JSON.stringify({ context, namespace, command, rest }) + "\\n");
const said = process.env[[command, ...(command === "get" ? [rest[0].split("/")[0]] : [])].join("_").toUpperCase()];
if (command === "port-forward") {
  process.on("SIGTERM", () => { appendFileSync(process.env.CALLS, '"ended"\\n'); process.exit(0); });
  console.log("Forwarding from 127.0.0.1:" + process.env.FORWARD + " -> 3100");
  setInterval(() => {}, 1000);
} else if (said === undefined) {
  console.error("Error from server (NotFound)");
  process.exit(1);
} else console.log(said);
`;

const claims = (tenant: string) => Buffer.from(JSON.stringify({ tenant_id: tenant })).toString("base64url");
let folder: string;
let api: Awaited<ReturnType<typeof startApi>>;

/** Knows users by their tenants' names, and answers with what it was sent. */
async function startApi() {
  const seen: { method: string; url: string; headers: IncomingMessage["headers"]; body: string }[] = [];
  const server = createServer(async (request, response) => {
    const { method = "", url = "", headers } = request;
    const body = await text(request);
    seen.push({ method, url, headers, body });
    if (url !== "/token") return void response.writeHead(201).end(JSON.stringify({ echo: body }));
    const { username, password } = JSON.parse(body);
    response.statusCode = password === "pass:word" ? 200 : 401;
    response.end(JSON.stringify({ access_token: `e30.${claims(username)}.x` }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, seen, server };
}

const calls = (): unknown[] =>
  readFileSync(join(folder, "calls"), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
const told = (command: string, ...rest: string[]) => ({ context: "prod", namespace: "keys", command, rest });
const open = (url: string | undefined = api.url) =>
  clusterTarget({ context: "prod", namespace: "keys", url });

beforeEach(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "latchkey-kubectl-")));
  writeFileSync(join(folder, "kubectl"), KUBECTL);
  chmodSync(join(folder, "kubectl"), 0o755);
  vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
  vi.stubEnv("CALLS", join(folder, "calls"));
  vi.stubEnv("FORWARD", "1");
  vi.stubEnv("CONTRACT_ADMIN_1", "one:pass:word");
  vi.stubEnv("CONTRACT_ADMIN_2", "two:pass:word");
  api = await startApi();
});
afterEach(() => {
  vi.unstubAllEnvs();
  api.server.closeAllConnections();
  api.server.close();
  rmSync(folder, { recursive: true });
});

test("two admins are logged in, and requests go to the public address with their ids", async () => {
  const target = await open();
  expect(target.callers.map(({ tenant }) => tenant)).toEqual(["one", "two"]);
  const sent = { method: "POST", path: "/data", token: "t", requestId: "r-1", json: { key: "a" } } as const;
  expect(await target.request(sent)).toEqual({ status: 201, body: { echo: '{"key":"a"}' } });
  expect(api.seen.at(-1)?.headers).toMatchObject({ authorization: "Bearer t", "x-request-id": "r-1" });
  await target.close();
});

test.each([
  ["function", "data-create"],
  ["shipper", "audit-ship"],
] as const)("the %s is all pods of its Knative Service, gone at once", async (victim, id) => {
  vi.stubEnv("DELETE", `pod/${id}-1\npod/${id}-2`);
  const target = await open();
  expect(await target.kill(victim)).toBe(`pod/${id}-1, pod/${id}-2`);
  const selector = `serving.knative.dev/service=${id}`;
  expect(calls().at(-1)).toEqual(
    told("delete", "pod", "--selector", selector, "--force", "--grace-period=0", "--output=name"),
  );
  await target.close();
});

test("the Redis that takes writes is asked for inside of a pod, whose scripts know the others and the password", async () => {
  vi.stubEnv("EXEC", "redis-2.redis-headless:6379");
  vi.stubEnv("DELETE", "pod/redis-2");
  const target = await open();
  expect(await target.kill("redis-master")).toBe("pod/redis-2");
  const [ask, kill] = calls().slice(-2) as { rest: string[] }[];
  expect(ask?.rest.slice(0, 5)).toEqual(["redis-0", "--container=redis", "--", "sh", "-c"]);
  expect(ask?.rest.join()).not.toContain("pass");
  expect(kill).toEqual(told("delete", "pod", "redis-2", "--force", "--grace-period=0", "--output=name"));
  await target.close();
});

test("what cannot be killed is no success: no pod, no master, no kubectl", async () => {
  const target = await open();
  vi.stubEnv("DELETE", "");
  await expect(target.kill("shipper")).rejects.toThrow("no pod of shipper");
  vi.stubEnv("EXEC", "(nil)");
  await expect(target.kill("redis-master")).rejects.toThrow("No Redis is master");
  vi.stubEnv("EXEC", undefined);
  await expect(target.kill("redis-master")).rejects.toThrow("NotFound");
  await target.close();
});

test("Loki is read through a port of kubectl's choice, which is closed at the end", async () => {
  const loki = await startDouble();
  vi.stubEnv("FORWARD", new URL(loki.url).port);
  const entries = entriesOf("one", 3);
  await createLokiClient({ url: loki.url }).push("one", pushBody(entries));
  const target = await open();
  expect(calls().at(-1)).toEqual(told("port-forward", "service/loki", ":3100"));
  const lines = await target.lines("one", new Date(Date.now() - 60_000));
  expect(lines.map((entry) => entry?.seq).sort()).toEqual([1, 2, 3]);
  await target.close();
  expect(calls().at(-1)).toBe("ended");
  await loki.stop();
});

test("without --url the Gateway is asked for its address, then the Service of nginx-gateway", async () => {
  vi.stubEnv("GET_GATEWAY", "gateway.invalid");
  await expect(open("")).rejects.toThrow("gateway.invalid");
  vi.stubEnv("GET_GATEWAY", undefined);
  vi.stubEnv("GET_SERVICE", "nginx.invalid");
  await expect(open("")).rejects.toThrow("nginx.invalid");
  vi.stubEnv("GET_SERVICE", undefined);
  await expect(open("")).rejects.toThrow("give one by --url");
});

test("an admin who is not given, or cannot log in, is named without the password", async () => {
  vi.stubEnv("CONTRACT_ADMIN_2", "two:wrong-password");
  await expect(open()).rejects.toThrow(/^CONTRACT_ADMIN_2 cannot log in: 401$/);
  vi.stubEnv("CONTRACT_ADMIN_2", "");
  await expect(open()).rejects.toThrow("CONTRACT_ADMIN_2 is not set");
});
