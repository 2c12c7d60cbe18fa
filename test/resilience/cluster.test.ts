/** What the resilience run tells kubectl and what it makes of the answers, tried with a kubectl that writes down what it is told. */
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { pushBody } from "../../shared/loki.ts";
import { createLokiClient } from "../../shared/node/loki-client.ts";
import { startDouble } from "../support/loki.ts";
import { entriesOf } from "../support/loki-tools.ts";
import { cleanUp, repository, until } from "../support/process.ts";
import { startReplica, startServer } from "../support/redis-servers.ts";
import { clusterTarget } from "./cluster.ts";

/**
 * Says what the variables say that are named after its commands, and forwards to the port in FORWARD until it is ended. With
 * NODES, the addresses of redis-0, redis-1, …, it does what it is told to do in them.
 */
const KUBECTL = `#!${process.execPath}
const { appendFileSync } = require("node:fs");
const { spawnSync } = require("node:child_process");
const [, context, , namespace, command, ...rest] = process.argv.slice(2);
appendFileSync(process.env.CALLS, JSON.stringify({ context, namespace, command, rest }) + "\\n");
const said = process.env[[command, ...(command === "get" ? [rest[0].split("/")[0]] : [])].join("_").toUpperCase()];
if (command === "port-forward") {
  process.on("SIGTERM", () => { appendFileSync(process.env.CALLS, '"ended"\\n'); process.exit(0); });
  console.log("Forwarding from 127.0.0.1:" + process.env.FORWARD + " -> 3100");
  setInterval(() => {}, 1000);
} else if (command === "exec" && process.env.NODES) {
  const nodes = process.env.NODES.split(",");
  const nameOf = (_, at) => "redis-" + at + ".redis-headless:6379";
  const script = nodes.reduce((text, node, at) => text.replaceAll(nameOf(node, at), node), rest.at(-1));
  const env = { ...process.env, REDIS_NODES: process.env.NODES, SELF: nodes[rest[0].slice(-1)] };
  const { stdout } = spawnSync("sh", ["-c", script.replaceAll("/etc/redis/", ${JSON.stringify(join(repository, "k8s/redis/"))})], { env });
  console.log(nodes.reduce((text, node, at) => text.replaceAll(node, nameOf(node, at)), String(stdout)));
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
  expect(calls().at(-1)).toEqual(told("delete", "pod", "--selector", selector, "--now", "--output=name"));
  await target.close();
});

describe("the Redis that takes writes", () => {
  const password = "a-password-of-admin";
  afterEach(cleanUp);

  test.each([0, 1])("is found, and its process ends at once, when it is redis-%i", async (at) => {
    const master = await startServer();
    const replica = await startReplica(master);
    const nodes = at === 0 ? [master, replica] : [replica, master];
    for (const { admin } of nodes)
      await admin.call("ACL", "SETUSER", "admin", "on", `>${password}`, "~*", "&*", "+@all");
    vi.stubEnv("ADMIN_PASSWORD", password);
    vi.stubEnv("NODES", nodes.map(({ address }) => address).join());
    const target = await open();
    expect(await target.kill("redis-master")).toBe(`the process of redis-${at}`);
    await until("the process to end", () => master.admin.status !== "ready");
    expect(await replica.admin.ping()).toBe("PONG");
    const told = calls().slice(-2) as { command: string; rest: string[] }[];
    expect(told.map(({ command }) => command)).toEqual(["exec", "exec"]);
    expect(told.map(({ rest }) => rest[0])).toEqual(["redis-0", `redis-${1 - at}`]);
    expect(JSON.stringify(told)).not.toContain(password);
    await target.close();
    for (const { admin } of nodes) admin.disconnect();
  });
});

test("what cannot be killed is no success: no pod, no master, one that refuses, no kubectl", async () => {
  const target = await open();
  vi.stubEnv("DELETE", "");
  await expect(target.kill("shipper")).rejects.toThrow("no pod of audit-ship");
  vi.stubEnv("EXEC", "redis-2.redis-headless:6379");
  await expect(target.kill("redis-master")).rejects.toThrow("redis-2 did not end");
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
