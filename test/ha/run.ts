/** A scenario from outside its world: run, read, and cleaned up. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repository } from "../support/process.ts";
import type { Outcome, PlainOutcome, ScenarioName } from "./outcome.ts";
import { runInWorld } from "./world.ts";

async function run(name: ScenarioName, rounds: number, kind: "functions" | "plain"): Promise<unknown> {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-ha-"));
  const running = runInWorld(join(repository, "test/ha/scenario.ts"), [name, String(rounds), folder, kind]);
  // Of what was broken off nothing is kept; the world that works in the folder has been ended just before.
  const forget = () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  process.once("exit", forget);
  const code = await running;
  process.off("exit", forget);
  // Kept for whoever wants to know why: the logs of all pods are in it.
  if (code !== 0) throw new Error(`The scenario ${name} ended with ${code}; see ${folder}`);
  const outcome = JSON.parse(readFileSync(join(folder, "outcome.json"), "utf8"));
  rmSync(folder, { recursive: true });
  return outcome;
}

export const runScenario = (name: ScenarioName, rounds: number) =>
  run(name, rounds, "functions") as Promise<Outcome>;
export const runPlain = (name: ScenarioName, rounds: number) =>
  run(name, rounds, "plain") as Promise<PlainOutcome>;
