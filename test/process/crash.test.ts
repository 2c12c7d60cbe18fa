/**
 * kill -9 at random moments under load: what was answered is kept, with one audit entry each, and nothing else happened.
 * CRASH_SEED repeats the writers' choices and the moments of a run, as far as the machine lets them repeat.
 */
import { afterEach, expect, onTestFailed, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  createProcessTenant,
  ownRedis,
  type ProcessTenant,
  type Program,
  runScript,
  send,
  until,
} from "../support/process.ts";
import { type Load, type LoadTenant, randomFrom, type Sent, startLoad } from "./crash-load.ts";
import { type Findings, verifyBacklog, verifyTenant } from "./crash-verify.ts";

const SEED = Number(process.env["CRASH_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const TENANTS = ["alpha", "beta", "gamma"];
/** Answers between two kills, at most. */
const MOST_ANSWERS = 150;
/** Milliseconds for a test: many times what it takes on two free cores and a disk that is quick to sync. */
const TIMEOUT = 150_000;

afterEach(cleanUp);

/** The whole API as one process over a Redis of its own, with tenants, under load. */
async function createScene(random: () => number) {
  onTestFailed(() => void process.stdout.write(`Again with the same choices: CRASH_SEED=${SEED}\n`));
  const redis = await ownRedis();
  const secrets = await makeSecrets("demo");
  const tenants: ProcessTenant[] = [];
  for (const id of TENANTS) tenants.push(await createProcessTenant(redis.redis, secrets, id));
  const current: { program?: Program; origin: string | undefined } = { origin: undefined };

  async function serve(): Promise<string> {
    const env = { PORT: "0", REDIS_URL: redis.url, LATCHKEY_MODE: "local", ...secrets };
    current.program = runScript("shared/node/main.ts", { args: ["all"], env });
    const [, port] = await current.program.says(/"port":(\d+)/);
    current.origin = `http://127.0.0.1:${port}`;
    return current.origin;
  }
  async function end(signal: NodeJS.Signals): Promise<number | null | undefined> {
    current.origin = undefined;
    current.program?.kill(signal);
    return (await current.program?.ended())?.code;
  }

  const origin = await serve();
  const setUp: Sent[] = [];
  const loadTenants: LoadTenant[] = [];
  for (const { id, token } of tenants) {
    const requestId = `setup-${id}`;
    const headers = { "x-request-id": requestId };
    const { status, body } = await send(origin, "POST", "/api-keys", {
      as: token,
      headers,
      json: { name: requestId },
    });
    const target = body.key_id as string;
    setUp.push({
      ...{ requestId, tenant: id, writer: "setup", action: "create_api_key", target },
      outcome: "acknowledged",
      status,
    });
    loadTenants.push({ id, token, apiKey: body.key_value });
  }
  const load = startLoad({ random, tenants: loadTenants, origin: () => current.origin });
  return { redis, tenants, load, setUp, serve, end, current };
}
type Scene = Awaited<ReturnType<typeof createScene>>;

/** Wait for a random number of answers, so that the next kill meets requests under way. */
async function underLoad(load: Load, random: () => number): Promise<void> {
  const target = load.acknowledged() + 1 + Math.floor(random() * MOST_ANSWERS);
  await until("the load to be answered", () => load.acknowledged() >= target);
}

/** End the load, hold Redis against everything that was answered, and say what happened. */
async function verify(scene: Scene, name: string, kills: string[]): Promise<Map<string, Findings>> {
  const { redis, tenants, load, setUp } = scene;
  // The last start has to serve as well as the first.
  await underLoad(load, () => 0.9);
  await load.stop();
  // What nobody got an answer to may be still to happen, until Redis has read a lost connection to its end.
  await until("Redis to have only the connection that is in use", async () => {
    const clients = String(await redis.redis.client("LIST"));
    return clients.match(/ name=latchkey /g)?.length === 1;
  });
  const everything = [...setUp, ...load.sent];
  const findings = new Map<string, Findings>();
  const table = [`${name}: seed ${SEED}, ${kills.length} kills (${kills.join(" ")})`];
  const row = (...cells: unknown[]) => table.push(cells.map((cell) => String(cell).padStart(13)).join(""));
  row("tenant", "acknowledged", "refused", "unknown", "(happened)", "entries", "items", "API keys");
  for (const tenant of tenants) {
    const sent = everything.filter((one) => one.tenant === tenant.id);
    const found = await verifyTenant(redis.redis, tenant, sent);
    findings.set(tenant.id, found);
    const count = (outcome: string) => sent.filter((one) => one.outcome === outcome).length;
    const { happened, entries, items, apiKeys } = found;
    row(
      tenant.id,
      count("acknowledged"),
      count("refused"),
      count("unknown"),
      happened,
      entries,
      items,
      apiKeys,
    );
  }
  process.stdout.write(`${table.join("\n")}\n`);
  const violations = [...findings.values()].flatMap((one) => one.violations);
  violations.push(...(await verifyBacklog(redis.redis, tenants)));
  expect(violations).toEqual([]);
  await verifyKeys(scene, everything);
  redis.redis.disconnect();
  return findings;
}

/** Through the API: keys that are left are let in, deleted ones are not. */
async function verifyKeys({ current }: Scene, sent: readonly Sent[]): Promise<void> {
  const touched = new Set(sent.filter((one) => one.action === "delete_api_key").map((one) => one.target));
  const gone = new Set(
    sent
      .filter((one) => one.action === "delete_api_key" && one.outcome === "acknowledged")
      .map((one) => one.target),
  );
  const created = sent.filter((one) => one.text !== undefined);
  const sample = [
    ...created
      .filter((one) => !touched.has(one.target))
      .slice(-10)
      .map((one) => [one, 404] as const),
    ...created
      .filter((one) => gone.has(one.target))
      .slice(-10)
      .map((one) => [one, 401] as const),
  ];
  expect(sample.length).toBeGreaterThan(10);
  for (const [{ text, target }, expected] of sample) {
    const { status } = await send(current.origin ?? "", "GET", "/data/no-such-item", { as: text as string });
    expect([target, status]).toEqual([target, expected]);
  }
}

test(
  "kill -9 of the serving process loses no answered change, and no entry of the audit trail",
  async () => {
    const random = randomFrom(SEED);
    const scene = await createScene(random);
    const kills: string[] = [];
    while (kills.length < 10) {
      await underLoad(scene.load, random);
      await scene.end("SIGKILL");
      kills.push("process");
      await scene.serve();
    }
    await verify(scene, "kill -9 of the process", kills);
  },
  TIMEOUT,
);

test(
  "kill -9 of redis-server, alone or with the process, loses nothing either",
  async () => {
    const random = randomFrom(SEED + 1);
    const scene = await createScene(random);
    const kills: string[] = [];
    for (const victim of ["redis", "both", "redis", "both", "redis", "both"]) {
      await underLoad(scene.load, random);
      const ends = victim === "both" ? [scene.redis.kill(), scene.end("SIGKILL")] : [scene.redis.kill()];
      await Promise.all(ends);
      kills.push(victim);
      await scene.redis.start();
      if (victim === "both") await scene.serve();
    }
    await verify(scene, "kill -9 of redis-server", kills);
  },
  TIMEOUT,
);

/** Cut the connections of the serving process. */
async function cutConnections({ redis }: Scene): Promise<void> {
  const clients = String(await redis.redis.client("LIST"));
  for (const [, id = ""] of clients.matchAll(/^id=(\d+) .*name=latchkey /gm)) {
    await redis.redis.client("KILL", "ID", id);
  }
}

test(
  "a connection to Redis that breaks under load makes nothing happen twice",
  async () => {
    const random = randomFrom(SEED + 2);
    const scene = await createScene(random);
    const cuts: string[] = [];
    while (cuts.length < 4) {
      await underLoad(scene.load, random);
      await cutConnections(scene);
      cuts.push("connection");
    }
    await verify(scene, "broken connections", cuts);
  },
  TIMEOUT,
);

test(
  "SIGTERM under load: everything that happened was answered",
  async () => {
    const random = randomFrom(SEED + 3);
    const scene = await createScene(random);
    const kills: string[] = [];
    while (kills.length < 3) {
      await underLoad(scene.load, random);
      expect(await scene.end("SIGTERM")).toBe(0);
      kills.push("SIGTERM");
      await scene.serve();
    }
    const findings = await verify(scene, "SIGTERM", kills);
    for (const { happened } of findings.values()) expect(happened).toBe(0);
  },
  TIMEOUT,
);
