/**
 * `npm run ha [-- <rounds> [scenario …]]`: every fault several times over, and the same with ioredis's own Sentinel client.
 * Prints the table of what was promised and what was measured, and fails when a promise is broken.
 */
import { delays, largest, losses, median, type Outcome, type ScenarioName, scenarios } from "./outcome.ts";
import { runPlain, runScenario } from "./run.ts";
import { whyNoWorld } from "./world.ts";

const ROUNDS = 10;
const [rounds = String(ROUNDS), ...wanted] = process.argv.slice(2);
if (!(Number(rounds) >= 1) || wanted.some((name) => !scenarios.some((known) => known === name))) {
  process.stderr.write(`Usage: npm run ha [-- <rounds> [scenario …]], of ${scenarios.join(", ")}\n`);
  process.exit(1);
}
const names = wanted.length === 0 ? scenarios : scenarios.filter((name) => wanted.includes(name));
/** Where there is a point in comparing: the others are about what the functions do. */
const compared: readonly ScenarioName[] = ["kill", "restart", "stop", "partition", "rolling"];

const titles: Record<(typeof scenarios)[number], string> = {
  kill: "kill -9 of the master, its machine stays away",
  restart: "kill -9 of the master, its container restarts at once",
  emptied: "the same, and its volume is lost",
  stop: "SIGSTOP of the master for 20 s, then SIGCONT",
  partition: "partition: master and one client cut off for 15 s",
  rolling: "rolling restart of all six, with new addresses",
  sentinels: "all Sentinels killed, then the master; Sentinels back after 6 s",
  blackout: "kill -9 of all six; a replica that is 2 s behind comes back 8 s before the others",
  stale: "kill -9 while the first Sentinel still names the old master",
  tls: "kill -9 of the master, its container restarts at once, all over TLS",
};

const say = (line: string) => process.stdout.write(`${line}\n`);
const row = (...cells: unknown[]) => say(`| ${cells.join(" | ")} |`);
const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`;

function report(name: keyof typeof titles, { rounds: done, verdict }: Outcome): void {
  const outages = done.map(({ outage }) => outage);
  const refusals = done.map((round) => Object.values(round.refusals).reduce((sum, count) => sum + count, 0));
  row(
    titles[name],
    done.length,
    verdict.acknowledged,
    verdict.lost,
    `${verdict.entries} / ${verdict.gaps}`,
    `${seconds(median(outages))} (${seconds(largest(outages))})`,
    `${seconds(largest(done.map(({ slowest }) => slowest)))} (${seconds(largest(done.map(({ control }) => control)))})`,
    median(refusals),
  );
}

const impossible = whyNoWorld();
if (impossible !== undefined) {
  say(`This cannot run here: ${impossible}`);
  process.exit(1);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
const broken: string[] = [];
row(
  "fault",
  "times",
  "acknowledged",
  "lost",
  "entries lost or doubled / gaps",
  "nothing acknowledged: median (longest)",
  "slowest answer (without Redis)",
  "503, median",
);
row(..."--------".split("").map(() => "---"));
for (const name of names) {
  const outcome = await runScenario(name, Number(rounds));
  report(name, outcome);
  broken.push(...[...losses(outcome), ...delays(name, outcome)].map((sentence) => `${name}: ${sentence}`));
}
say("\nThe same faults, with 64 writers over ioredis's own Sentinel client, without WAIT:\n");
row("fault", "times", "acknowledged", "lost", "doubled", "nothing acknowledged, longest", "slowest answer");
row(..."-------".split("").map(() => "---"));
for (const name of names.filter((one) => compared.includes(one))) {
  const { acknowledged, lost, doubled, outage, slowest } = await runPlain(name, Number(rounds));
  row(titles[name], rounds, acknowledged, lost, doubled, seconds(outage), seconds(slowest));
}
if (broken.length > 0) {
  say(`\nBroken promises:\n${broken.join("\n")}`);
  process.exitCode = 1;
}
