/**
 * kill -9 of everything between an operation and its line in Loki, at random moments under load: nothing is lost and
 * nothing arrives twice. `node test/crash-audit.ts [seconds]`, 180 by default; `npm test` runs it for a short while.
 * CRASH_SEED repeats a run's choices, as far as the machine lets them repeat.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createLokiClient } from "../shared/node/loki-client.ts";
import { randomFrom } from "./process/crash-load.ts";
import { MAX_TTL, startLoad } from "./support/crash-audit-load.ts";
import { type Scene, startScene } from "./support/crash-audit-scene.ts";
import { type Findings, findWaiting, verifyTenant } from "./support/crash-audit-verify.ts";
import { cleanUp, cleanUpOnSignals, until } from "./support/process.ts";

const TENANTS = ["alpha", "beta", "gamma", "delta"];
/** Milliseconds between two ticks; the relay looks for what is older than 5 s. */
const RELAY_EVERY = 1_500;
const EXPIRE_EVERY = 1_000;
/** Milliseconds between two kills on average, and of a victim's absence at most. */
const KILL_EVERY = 3_500;
const MAX_ABSENCE = 3_000;
/** How often two are killed at once. */
const TOGETHER = 0.35;
/** A run has this many kills, even where it has to last longer for that, or as many more as its length allows. */
const LEAST_KILLS = 6;

export interface Result {
  readonly violations: readonly string[];
  /** What to print. */
  readonly report: string;
}

interface Options {
  /** Of load. */
  readonly seconds: number;
  /** For everything to arrive after the load. */
  readonly drainSeconds: number;
  readonly seed: number;
}

/** Ends what it started, however it ends. */
export async function crashAudit({ seconds, drainSeconds, seed }: Options): Promise<Result> {
  const stops: (() => unknown)[] = [];
  try {
    // A Loki that is not ours may have seen tenants of these names before.
    const run = crypto.randomUUID().slice(0, 8);
    const scene = await startScene(TENANTS.map((name) => `${name}-${run}`));
    stops.push(scene.stop);
    const { redis, tenants, origin } = scene;
    const load = await startLoad({ random: randomFrom(seed), tenants, origin });
    stops.push(load.stop);
    const stopTicks = [scene.relay.every(RELAY_EVERY), scene.expire.every(EXPIRE_EVERY)];
    stops.push(...stopTicks);
    const kills = await killAtRandom(scene, seconds * 1000, randomFrom(seed + 1));
    await load.stop();
    for (const stop of stopTicks) stop();
    const began = Date.now();
    const violations = await drain(scene, drainSeconds * 1000);
    const drained = Date.now() - began;

    const client = createLokiClient({ url: scene.loki.url });
    const findings: Findings[] = [];
    for (const tenant of tenants) {
      const sent = load.sent.filter((one) => one.tenant === tenant.id);
      findings.push(await verifyTenant(redis, client, tenant, sent));
    }
    violations.push(...findings.flatMap((one) => one.violations), ...misbehaviour(scene));
    const title = `${seconds} s of load, seed ${seed}, Loki: ${scene.kind}, drained in ${drained} ms`;
    const report = [title, table(findings), tally("kills", kills), ...tickReport(scene), ...logReport(scene)];
    return { violations, report: report.join("\n") };
  } finally {
    // First the processes, so that nothing waits for their answers.
    await cleanUp();
    await Promise.all(stops.map((stop) => stop()));
  }
}

/** One victim after the other, in rounds of an order of its own; how long each is away overlaps with the next kills. */
async function killAtRandom({ victims }: Scene, duration: number, random: () => number): Promise<string[]> {
  const end = Date.now() + duration;
  const pause = Math.min(KILL_EVERY, duration / LEAST_KILLS);
  const absence = Math.min(MAX_ABSENCE, duration / 20);
  const kills: string[] = [];
  const restarts: Promise<void>[] = [];
  const failures: unknown[] = [];
  let round: Scene["victims"] = [];
  for (;;) {
    // Also within a restart's first moments, when nothing is connected yet.
    await sleep(pause * (0.1 + 1.6 * random()));
    if ((Date.now() >= end && kills.length >= LEAST_KILLS) || failures.length > 0) break;
    // Some at once: what one of them would send again, the other has forgotten too.
    const count = random() < TOGETHER ? 2 : 1;
    if (round.length < count) round = [...shuffled(victims, random), ...round];
    const chosen = [...new Set(round.splice(-count))];
    for (const victim of chosen) {
      await until(`${victim.name} to serve again`, () => victim.isUp(), 60_000);
    }
    await Promise.all(chosen.map((victim) => victim.kill()));
    for (const victim of chosen) {
      kills.push(victim.name);
      // A quarter of them is away for long.
      const away = random() < 0.25 ? absence * random() : 300 * random();
      const restart = sleep(away).then(() => victim.start());
      restarts.push(restart.catch((error: unknown) => void failures.push(error)));
    }
  }
  await Promise.all(restarts);
  if (failures.length > 0) throw failures[0];
  return kills;
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const drawn = list.map((one) => [random(), one] as const);
  return drawn.sort(([a], [b]) => a - b).map(([, one]) => one);
}

/** Tick until nothing waits. @returns what still does when the time is over */
async function drain({ redis, tenants, relay, expire }: Scene, duration: number): Promise<string[]> {
  const deadline = Date.now() + duration;
  await sleep(MAX_TTL * 1000);
  for (;;) {
    await expire.tick();
    const waiting = await findWaiting(redis, tenants);
    if (waiting.length === 0 || Date.now() > deadline) return waiting;
    await Promise.race([relay.tick(), sleep(5_000)]);
    await sleep(500);
  }
}

/** What no crash explains: an end of its own accord, or another answer to a tick than 204 or none. */
function misbehaviour({ victims, relay, expire }: Scene): string[] {
  const ended = victims.filter((one) => !one.isUp()).map(({ name }) => `${name} ended by itself`);
  const odd = [...relay.answers.keys(), ...expire.answers.keys()].filter(
    (status) => ![0, 204].includes(status),
  );
  return [...ended, ...odd.map((status) => `a tick was answered ${status}`)];
}

function tally(what: string, names: readonly string[]): string {
  const counts = Object.entries(Object.groupBy(names, (name) => name)).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${what}: ${names.length} (${counts.map(([name, all]) => `${name} ${all?.length}`).join(", ")})`;
}

const tickReport = ({ relay, expire }: Scene): string[] =>
  Object.entries({ relay, expire }).map(([name, { answers }]) => {
    const counts = [...answers].map(([status, count]) => `${status === 0 ? "none" : status}: ${count}`);
    return `answers to ticks of ${name}: ${counts.join(", ")}`;
  });

/** Errors that the processes logged, by their first words. */
function logReport({ victims }: Scene): string[] {
  return victims.flatMap(({ name, output }) => {
    const messages = [...output().matchAll(/"msg":"([^"]{0,60})/g)].map(([, message = ""]) => message);
    return messages.length === 0 ? [] : [tally(`errors logged by ${name}`, messages)];
  });
}

function table(findings: readonly Findings[]): string {
  const heads = ["tenant", "acknowledged", "unknown", "(happened)", "entries", "in Loki", "gaps", "doubles"];
  const rows = [[...heads, "expirations"]];
  for (const one of findings) {
    const { tenant, acknowledged, unknown, happened, entries, inLoki, gaps, doubles, expirations } = one;
    const cells = [acknowledged, unknown, happened, entries, inLoki, gaps, doubles, expirations];
    rows.push([tenant, ...cells.map(String)]);
  }
  return rows.map((row) => row.map((cell) => cell.padStart(15)).join("")).join("\n");
}

/** A seed from the environment, or a new one. */
export const crashSeed = (): number =>
  Number(process.env["CRASH_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

async function main(): Promise<number> {
  const seconds = Number(process.argv[2] ?? 180);
  // Tokens live for 600 s.
  if (!(seconds > 0 && seconds <= 500)) throw new RangeError("from 1 to 500 seconds");
  const { report, violations } = await crashAudit({ seconds, drainSeconds: 90, seed: crashSeed() });
  const verdict = violations.length === 0 ? "no violations" : `${violations.length} violations`;
  process.stdout.write(`${[report, verdict, ...violations.slice(0, 100)].join("\n")}\n`);
  return violations.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  cleanUpOnSignals();
  process.exit(await main());
}
