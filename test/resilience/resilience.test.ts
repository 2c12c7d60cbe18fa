/** `npm run resilience` says that nothing is missing only when nothing is. */
import { describe, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { entryOf } from "../support/loki-tools.ts";
import { cleanUp } from "../support/process.ts";
import { localTarget } from "./local.ts";
import { type Options, resilience, table } from "./run.ts";
import type { Target, Victim } from "./target.ts";

const PATIENT: Options = { operations: 5, patience: 60_000, pause: 1 };
/** For what never comes. */
const IMPATIENT: Options = { ...PATIENT, patience: 300 };
const quietly = () => undefined;

interface Faults {
  /** What Loki shows of a tenant's entries. */
  readonly shown?: (entries: AuditEntry[], kills: number) => (AuditEntry | undefined)[];
  /** In place of an answer; after how many kills. */
  readonly answer?: (
    path: string,
    method: string,
    kills: number,
  ) => { status: number; body?: unknown } | undefined;
}

/** An installation in memory that does everything right, but for its faults. */
function memory({ shown = (entries) => entries, answer = () => undefined }: Faults = {}) {
  const items = new Map<string, unknown>();
  const trails = new Map<string, AuditEntry[]>();
  const killed: Victim[] = [];
  const target: Target = {
    name: "memory",
    callers: [
      { tenant: "a", token: "a" },
      { tenant: "b", token: "b" },
    ],
    async request({ method, path, token, json }) {
      const instead = answer(path, method, killed.length);
      if (instead !== undefined) return { body: undefined, ...instead };
      await new Promise((resolve) => setImmediate(resolve));
      const trail = trails.get(token) ?? [];
      trails.set(token, trail);
      const action = { POST: "create_key", GET: "get_key", PUT: "update_key" } as const;
      if (path === "/trigger-log-offload") return { status: 202, body: { task_id: "t" } };
      const item = json as { key?: string; value: unknown } | undefined;
      const key = `${token}${item?.key ?? path.slice("/data/".length)}`;
      if (item !== undefined) items.set(key, item.value);
      const seq = trail.length + 1;
      const target = { type: "item", id: key.slice(token.length) } as const;
      trail.push(entryOf({ tenant_id: token, seq, action: action[method], target }));
      return { status: 200, body: { value: items.get(key) } };
    },
    async kill(victim) {
      killed.push(victim);
      return victim;
    },
    lines: async (tenant) => shown(trails.get(tenant) ?? [], killed.length),
    close: async () => undefined,
  };
  return { target, items, killed };
}

const violationsOf = async (faults: Faults) =>
  (await resilience(memory(faults).target, IMPATIENT, quietly)).violations.join("\n");

test("nothing is missing: three kills, and no violation", async () => {
  const { target, killed } = memory();
  const { phases, violations } = await resilience(target, PATIENT, quietly);
  expect(violations).toEqual([]);
  expect(killed).toEqual(["function", "redis-master", "shipper"]);
  expect(phases).toHaveLength(4);
  for (const { findings } of phases) {
    for (const one of findings) {
      expect(one.acknowledged).toBeGreaterThanOrEqual(PATIENT.operations);
      expect(one).toMatchObject({ inLoki: one.acknowledged, missing: 0, doubled: 0, gaps: 0 });
    }
  }
  expect(table(phases).split("\n")).toHaveLength(1 + 4 * 2);
});

test.each<[string, RegExp, Faults["shown"]]>([
  ["the last entry", /acknowledged without an entry/, (all) => all.slice(0, -1)],
  ["one entry in the middle", /1 numbers are missing/, (all) => all.toSpliced(3, 1)],
  ["everything", /acknowledged without an entry/, () => []],
  ["an entry, of which another has two", /in Loki twice/, (all) => [...all.slice(0, -1), all[0]]],
  ["nothing, but one line is no entry", /1 lines are no entries/, (all) => [...all, undefined]],
  [
    "nothing, but it has another's",
    /of another tenant/,
    (all) => [...all, entryOf({ tenant_id: "z", seq: all.length + 1 })],
  ],
  [
    "an outcome",
    /entered as no success/,
    (all) => all.map((one) => ({ ...one, outcome: "denied" as const })),
  ],
  [
    "one number for two entries of a request",
    /entered more than once/,
    (all) => [...all, { ...(all.at(-1) as AuditEntry), id: "evt_again", seq: all.length + 1 }],
  ],
])("Loki lacks %s: a violation that says so", async (_, expected, shown) => {
  expect(await violationsOf({ shown: shown as NonNullable<Faults["shown"]> })).toMatch(expected);
});

test.each([1, 2, 3])("what is missing only after kill number %i is found after it", async (number) => {
  const shown = (all: AuditEntry[], kills: number) => (kills < number ? all : all.slice(0, -1));
  // It has to last for what is there before.
  const options = { ...IMPATIENT, patience: 1_500 };
  const { phases, violations } = await resilience(memory({ shown }).target, options, quietly);
  expect([phases.length, violations.length > 0]).toEqual([number + 1, true]);
});

describe("an installation", () => {
  test("that serves nothing after a kill", async () => {
    const answer: Faults["answer"] = (path, method, kills) =>
      kills > 0 && method === "POST" && path === "/data" ? { status: 503 } : undefined;
    expect(await violationsOf({ answer })).toMatch(/operations were acknowledged after the kill/);
  });

  test("that does not take the offload", async () => {
    const answer: Faults["answer"] = (path) =>
      path === "/trigger-log-offload" ? { status: 403 } : undefined;
    expect(await violationsOf({ answer })).toMatch(/the offload was answered 403/);
  });

  test("that answers what nothing explains", async () => {
    const answer: Faults["answer"] = (_, method, kills) =>
      kills === 1 && method === "PUT" ? { status: 404 } : undefined;
    expect(await violationsOf({ answer })).toMatch(/was answered 404/);
  });

  test("that forgets an item", async () => {
    const { target, items } = memory();
    const forgetful: Target = {
      ...target,
      async kill(victim) {
        for (const key of [...items.keys()].slice(0, 1)) items.delete(key);
        return victim;
      },
    };
    const { violations } = await resilience(forgetful, PATIENT, quietly);
    expect(violations.join("\n")).toMatch(/the item \S+ is lost/);
  });
});

test("processes on this machine: a function, the Redis master and the shipper are killed, and nothing is missing", async () => {
  const target = await localTarget();
  try {
    const { phases, violations } = await resilience(
      target,
      { ...PATIENT, operations: 10, pause: 20 },
      quietly,
    );
    expect(violations).toEqual([]);
    expect(phases.map(({ killed }) => killed)).toEqual([
      "–",
      expect.stringMatching(/^data-create \(pid \d+\)$/),
      expect.stringMatching(/^redis at \d+ \(pid \d+\)$/),
      expect.stringMatching(/^audit-ship \(pid \d+\)$/),
    ]);
    expect(phases.at(-1)?.findings.every(({ inLoki }) => inLoki >= 70)).toBe(true);
  } finally {
    await target.close();
    await cleanUp();
  }
}, 180_000);
