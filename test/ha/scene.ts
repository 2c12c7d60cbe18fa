/** The whole system in a world of its own: Redis, Sentinels, two function processes, and 64 writers. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { type Load, type LoadTenant, type Sent, startLoad } from "../process/crash-load.ts";
import { verifyBacklog, verifyTenant } from "../process/crash-verify.ts";
import { createProcessTenant, type ProcessTenant, repository, send, until } from "../support/process.ts";
import { clientEnvironment, createCluster, createTls, type Tls, tlsOf } from "./cluster.ts";
import { createMeter } from "./meter.ts";
import { startRevocations } from "./revocations.ts";
import { createWorld, type Pod } from "./world.ts";

/** Each with four writers. */
const TENANTS = 16;
const FUNCTIONS_PORT = 8080;
/** Milliseconds that a writer thinks after an answer, and after it was told to come again. */
const THINKING = { answered: 20, refused: 100 };

export interface FunctionsPod {
  readonly pod: Pod;
  readonly origin: string;
}
export type Scene = Awaited<ReturnType<typeof createScene>>;

export async function createScene(folder: string, withTls: boolean) {
  const world = createWorld(folder);
  const tls = withTls ? createTls(folder) : undefined;
  const cluster = createCluster(world, tls);
  cluster.start();
  const master = await cluster.healthy();
  const secrets = await makeSecrets("ha");

  const redis = dataOf(master.pod, tls);
  const tenants: ProcessTenant[] = [];
  for (let number = 0; number < TENANTS; number += 1)
    tenants.push(await createProcessTenant(redis, secrets, `tenant-${number}`));
  const revoker = await createProcessTenant(redis, secrets, "revoker");
  redis.disconnect();

  const functions: FunctionsPod[] = [];
  for (const number of [0, 1]) {
    const pod = world.addPod(`functions-${number}`, `functions-${number}`);
    pod.appear();
    functions.push({ pod, origin: `http://${pod.address}:${FUNCTIONS_PORT}` });
  }
  const start = (pod: Pod, env: Record<string, string> = {}) =>
    pod.start(process.execPath, [join(repository, "shared/node/main.ts"), "all"], {
      ...{ PORT: String(FUNCTIONS_PORT), LATCHKEY_LOG_LEVEL: "warn" },
      ...clientEnvironment,
      ...(tls === undefined ? {} : { REDIS_TLS: "true", REDIS_TLS_CA: tls.ca }),
      ...secrets,
      ...env,
    });
  for (const { pod } of functions) start(pod);
  const ready = ({ origin }: FunctionsPod) =>
    until(
      "a function process to be ready",
      () =>
        send(origin, "GET", "/health/readiness").then(
          ({ status }) => status === 200,
          () => false,
        ),
      60_000,
    );
  await Promise.all(functions.map(ready));
  return { world, cluster, tls, tenants, revoker, functions, start, ready };
}

/** The tests' own connection to the data of a node, as a function would have it. */
function dataOf(pod: Pod, tls: Tls | undefined): Redis {
  const redis = new Redis(6379, pod.address, {
    ...tlsOf(tls),
    username: clientEnvironment.REDIS_USERNAME,
    password: clientEnvironment.REDIS_PASSWORD,
  });
  redis.on("error", () => undefined);
  return redis;
}

export type Writers = Awaited<ReturnType<typeof startWriters>>;

/** Start 64 writers, and those who use revoked keys. */
export async function startWriters({ tenants, revoker, functions }: Scene) {
  const meter = createMeter();
  const origins = functions.map(({ origin }) => origin);
  const setUp: Sent[] = [];
  const loadTenants: LoadTenant[] = [];
  for (const { id, token } of tenants) {
    const requestId = `setup-${id}-${process.hrtime.bigint()}`;
    const options = { as: token, headers: { "x-request-id": requestId }, json: { name: requestId } };
    const { status, body } = await send(origins[0] ?? "", "POST", "/api-keys", options);
    if (status !== 201) throw new Error(`no API key before the faults: ${status} ${body?.code}`);
    setUp.push({
      ...{ requestId, tenant: id, writer: "setup", action: "create_api_key", target: body.key_id },
      ...{ outcome: "acknowledged", status },
    });
    loadTenants.push({ id, token, apiKey: body.key_value });
  }
  let held: Promise<void> = Promise.resolve();
  const load: Load = startLoad({
    random: Math.random,
    tenants: loadTenants,
    origin: () => origins[Math.floor(Math.random() * origins.length)],
    async observe({ to, took, answer }) {
      meter.note(to, took, answer);
      await sleep((answer?.status ?? 503) < 500 ? THINKING.answered : THINKING.refused);
      await held;
    },
  });
  const revocations = startRevocations(revoker.token, origins, () => held);
  const life = { stopping: false };
  const controls = origins.map(async (origin) => {
    while (!life.stopping) {
      const began = performance.now();
      await send(origin, "GET", "/health/liveness").catch(() => undefined);
      meter.noteControl(performance.now() - began);
      await sleep(THINKING.refused);
    }
  });
  return {
    meter,
    origins,
    load,
    revocations,
    /** Let nobody write for so long. */
    quiet(milliseconds: number): Promise<void> {
      held = sleep(milliseconds);
      return held;
    },
    sent: () => [...setUp, ...load.sent],
    async stop() {
      life.stopping = true;
      await Promise.all([load.stop(), revocations.stop(), ...controls]);
    },
  };
}

/** What was found when everything that was answered had been held against Redis. */
export interface Verdict {
  readonly acknowledged: number;
  /** Acknowledged changes that are not there. */
  readonly lost: number;
  /** Audit entries of answered requests that are missing, or there twice. */
  readonly entries: number;
  /** Numbers that are missing. */
  readonly gaps: number;
  readonly violations: readonly string[];
}

/** Stop the writers and hold everything that was answered against what the master has. */
export async function verify({ cluster, tls, tenants, revoker }: Scene, writers: Writers): Promise<Verdict> {
  await writers.stop();
  const master = await cluster.healthy();
  const redis = dataOf(master.pod, tls);
  const sent = writers.sent();
  const violations = [...writers.revocations.wrong];
  for (const tenant of tenants) {
    const own = sent.filter((one) => one.tenant === tenant.id);
    violations.push(...(await verifyTenant(redis, tenant, own)).violations);
  }
  violations.push(...(await verifyBacklog(redis, [...tenants, revoker])));
  redis.disconnect();
  const count = (pattern: RegExp) => violations.filter((sentence) => pattern.test(sentence)).length;
  return {
    acknowledged: sent.filter(({ outcome }) => outcome === "acknowledged").length,
    lost: count(/acknowledged \d+\) has 0 entries|it was answered that it is/),
    entries: count(/has \d+ entries/),
    gaps: count(/has number|the next number follows/),
    violations,
  };
}
