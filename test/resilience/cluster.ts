/** An installation in a cluster, reached by its public address and by kubectl. */
import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import { decodeJwt } from "jose";
import { DEPLOYED } from "../support/deployed-at.ts";
import { createHttpClient, type Incoming } from "../support/http-client.ts";
import { linesSince } from "./loki-lines.ts";
import type { Caller, Target, Victim } from "./target.ts";

interface Place {
  readonly context: string;
  readonly namespace: string;
  /** Of the API; without it the Gateway is asked, then the Service of nginx-gateway. */
  readonly url: string | undefined;
}
type Kubectl = (...args: string[]) => Promise<string>;

/** Milliseconds for one command of kubectl. */
const TIMEOUT = 60_000;
const execute = promisify(execFile);

/** What the scripts know that the pods of Redis were started with: names, passwords, TLS. */
const KNOWN = ". /etc/redis/lib.sh; ";
/** Whoever takes writes, one of several in a Redis Cluster. */
const FIND_MASTER = `${KNOWN}for node in $(words "$REDIS_NODES"); do case $(admin "$node" ROLE) in master*) echo "$node"; exit ;; esac; done`;

export async function clusterTarget(place: Place): Promise<Target> {
  const at = ["--context", place.context, "--namespace", place.namespace];
  const kubectl: Kubectl = async (...args) =>
    (
      await execute("kubectl", [...at, ...args], { timeout: TIMEOUT, maxBuffer: 16 * 1024 * 1024 })
    ).stdout.trim();
  const url = place.url || (await publicAddress(kubectl));
  const client = createHttpClient(url);
  const callers = await Promise.all(DEPLOYED.tenants.map(({ admin }) => logIn(client.send, admin)));
  const loki = await forward([...at, "port-forward", "service/loki", ":3100"]);

  return {
    name: `the cluster ${place.context}, at ${url}`,
    callers,
    async request({ method, path, token, requestId, json }) {
      const headers = new Headers({ authorization: `Bearer ${token}`, "x-request-id": requestId });
      if (json !== undefined) headers.set("content-type", "application/json");
      const body = json === undefined ? undefined : JSON.stringify(json);
      const { status, text } = await client.send({ method, path, headers, body });
      return { status, body: parse(text) };
    },
    kill: (victim) => kill(kubectl, victim),
    lines: (tenant, since) => linesSince(loki.url, tenant, since),
    async close() {
      client.close();
      await loki.stop();
    },
  };
}

async function publicAddress(kubectl: Kubectl): Promise<string> {
  const sources = [
    ["get", "gateway/latchkey", "--output", "jsonpath={.status.addresses[0].value}"],
    [
      "get",
      "service/nginx-gateway",
      "--output",
      "jsonpath={.status.loadBalancer.ingress[0]['ip','hostname']}",
    ],
  ];
  for (const source of sources) {
    const address = await kubectl(...source).catch(() => "");
    if (/^[\w.-]+$/.test(address)) return `http://${address}`;
  }
  throw new Error("Neither the Gateway nor the Service nginx-gateway has an address: give one by --url");
}

const kill = (kubectl: Kubectl, victim: Victim): Promise<string> =>
  victim === "redis-master"
    ? killMaster(kubectl)
    : killPods(kubectl, victim === "function" ? "data-create" : "audit-ship");

/**
 * All pods of a function. `--now` gives them a second. `--force` would give them more: then the API server forgets a pod at
 * once, and the kubelet lets it end in its own time (https://github.com/kubernetes/kubernetes/issues/120449).
 */
async function killPods(kubectl: Kubectl, id: string): Promise<string> {
  const selector = `serving.knative.dev/service=${id}`;
  const answer = await kubectl("delete", "pod", "--selector", selector, "--now", "--output=name");
  const killed = answer.split("\n").filter((line) => line.startsWith("pod/"));
  // With a selector kubectl is content to find nothing.
  if (killed.length === 0) throw new Error(`There was no pod of ${id} to kill`);
  return killed.join(", ");
}

/**
 * The process, not the pod: deleting that would have it hand over first (preStop), or with `--force` run beside its successor
 * on one volume. Signals from inside do not reach process 1, so it is told to end without waiting for anybody.
 */
async function killMaster(kubectl: Kubectl): Promise<string> {
  const within = (pod: string, script: string) =>
    kubectl("exec", pod, "--container=redis", "--", "sh", "-c", script);
  const master = await within("redis-0", FIND_MASTER);
  const pod = /^(redis-\d+)\.[\w.-]+:\d+$/.exec(master)?.[1];
  if (pod === undefined) throw new Error(`No Redis is master: ${master}`);
  // From another pod: this one's connection ends with its process.
  const neighbour = pod === "redis-0" ? "redis-1" : "redis-0";
  const refusal = await within(neighbour, `${KNOWN}admin ${master} SHUTDOWN NOSAVE NOW FORCE`);
  if (refusal !== "") throw new Error(`${pod} did not end: ${refusal}`);
  return `the process of ${pod}`;
}

/** kubectl chooses a port and says which. */
function forward(args: readonly string[]): Promise<{ url: string; stop(): Promise<unknown> }> {
  const process = spawn("kubectl", args, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => process.once("close", resolve));
  const stop = () => {
    process.kill();
    return ended;
  };
  return new Promise((resolve, reject) => {
    let said = "";
    const timer = setTimeout(() => fail("no answer"), TIMEOUT);
    const fail = (why: string) => {
      clearTimeout(timer);
      process.kill();
      reject(new Error(`kubectl ${args.join(" ")}: ${why} ${said.slice(-500)}`));
    };
    const listen = (chunk: Buffer) => {
      said += String(chunk);
      const port = /Forwarding from 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      resolve({ url: `http://127.0.0.1:${port}`, stop });
    };
    process.stdout.on("data", listen);
    process.stderr.on("data", listen);
    process.once("error", (error) => fail(error.message));
    process.once("exit", (code) => fail(`ended with ${code}`));
  });
}

async function logIn(
  send: (outgoing: { method: string; path: string; headers: Headers; body: string }) => Promise<Incoming>,
  variable: string,
): Promise<Caller> {
  const [, username, password] = /^([^:]+):(.+)$/s.exec(process.env[variable] ?? "") ?? [];
  if (username === undefined) throw new Error(`${variable} is not set to <username>:<password>`);
  const headers = new Headers({ "content-type": "application/json" });
  const body = JSON.stringify({ username, password });
  const { status, text } = await send({ method: "POST", path: "/token", headers, body });
  const token = (parse(text) as { access_token?: string } | undefined)?.access_token;
  if (status !== 200 || token === undefined) throw new Error(`${variable} cannot log in: ${status}`);
  return { tenant: String(decodeJwt(token)["tenant_id"]), token };
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
