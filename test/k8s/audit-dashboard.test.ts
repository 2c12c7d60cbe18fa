/**
 * Every query of the audit dashboard over a Loki in which entries are stored twice, as after a crash on their way: what it
 * shows is exact all the same.
 */
import { beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { pushBody } from "../../shared/loki.ts";
import { dashboard, interpolate, queriesOf } from "../support/dashboards.ts";
import { forEachLoki } from "../support/each-loki.ts";
import { entryOf, MINUTE } from "../support/loki-tools.ts";
import { until } from "../support/process.ts";

const board = dashboard("latchkey-audit");
const STEP = 10 * MINUTE;
const tenant_id = `t-${crypto.randomUUID()}`;
const everything = {
  ...{ action: ".+", outcome: ".+", contains: "" },
  ...{ __interval: `${STEP / MINUTE}m`, __range: "2h" },
};

const item = (id: string) => ({ target: { type: "item", id } });
const apiKey = { type: "api_key", id: "key_1" } as const;
const refused = { outcome: "denied", details: { reason: "insufficient_scope" } } as const;
/** The oldest first, three minutes between them. */
const facts: readonly Partial<AuditEntry>[] = [
  {
    action: "login_failed",
    outcome: "denied",
    details: { reason: "wrong_password" },
    target: { type: "user", id: "u" },
  },
  { action: "login_success", target: { type: "user", id: "u" } },
  { action: "create_api_key", target: { type: "api_key", id: "key_1" } },
  { action: "create_key", actor: apiKey, ...item("a") },
  { action: "get_key", actor: apiKey, ...item("a") },
  { action: "get_key", actor: apiKey, ...item('odd "b"') },
  { action: "get_key", username: "eve", ...refused, ...item("a") },
  { action: "delete_key", username: "eve", ...refused, ...item("a") },
  { action: "create_key", outcome: "failure", details: { reason: "already_exists" }, ...item("a") },
  { action: "delete_api_key", target: { type: "api_key", id: "key_1" } },
];

/** What each panel shows of them, by the values of the labels that it groups by. */
const shown: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  Entries: { "": 10 },
  "Denied requests": { "": 3 },
  "Failed logins": { "": 1 },
  "API keys created or deleted": { "": 2 },
  "Activity by action": {
    ...{ create_api_key: 1, create_key: 2, delete_api_key: 1, delete_key: 1, get_key: 3, login_failed: 1 },
    login_success: 1,
  },
  "Activity by outcome": { denied: 3, failure: 1, success: 6 },
  "Denied requests by action": { delete_key: 1, get_key: 1, login_failed: 1 },
  "Reasons of what was denied or failed": { already_exists: 1, insufficient_scope: 2, wrong_password: 1 },
  "Busiest API keys": { key_1: 5 },
  "Busiest users": { ada: 8, eve: 2 },
  "Most used items": { a: 5, 'odd "b"': 1 },
};

forEachLoki({}, ({ tools }) => {
  const now = Date.now();
  const entries = facts.map((fact, index) =>
    entryOf({ tenant_id, ...fact, seq: index + 1, at: now - (facts.length - index) * 3 * MINUTE }),
  );
  const ask = async (path: string, search: Record<string, string>) => {
    const { status, text } = await tools().send(`${path}?${new URLSearchParams(search)}`, {
      headers: { "X-Scope-OrgID": tenant_id },
    });
    if (status !== 200) throw new Error(`${status} ${text}`);
    return JSON.parse(text).data;
  };
  const ns = (at: number): string => `${at}000000`;

  beforeAll(async () => {
    const { push } = tools().tenant(tenant_id);
    const pushAll = async () => {
      for (const entry of entries) expect((await push(pushBody([entry]))).status).toBe(204);
    };
    await pushAll();
    expect((await tools().flush(tenant_id)).status).toBe(204);
    // What has been written out is not compared with what comes, but for the last of each stream.
    const lone = facts.filter(
      ({ action }) => facts.filter((one) => one.action === action).length === 1,
    ).length;
    await until("all but the last of each stream to be there twice", async () => {
      await pushAll();
      const { "": stored } = await evaluate('sum(count_over_time({job="audit_logs"}[2h]))', true);
      return stored === 2 * entries.length - lone;
    });
  });

  /** The sum of each series over all steps, by the values of its labels. */
  async function evaluate(expr: string, isInstant: boolean): Promise<Record<string, number>> {
    const { result } = isInstant
      ? await ask("query", { query: expr, time: ns(now) })
      : await ask("query_range", {
          query: expr,
          start: ns(now - 6 * STEP),
          end: ns(now),
          step: String(STEP / 1000),
        });
    type Series = { metric: Record<string, string>; value?: [number, string]; values?: [number, string][] };
    return Object.fromEntries(
      (result as Series[]).map(({ metric, value, values = value === undefined ? [] : [value] }) => [
        Object.values(metric).join(" "),
        values.reduce((sum, [, text]) => sum + Number(text), 0),
      ]),
    );
  }

  const counting = queriesOf(board).filter(({ expr }) => expr.startsWith("count") || expr.startsWith("topk"));
  test.each(counting.map((one) => [one.name, one] as const))(
    "“%s” counts each entry once",
    async (name, { expr, isInstant }) => {
      expect(await evaluate(interpolate(expr, everything), isInstant)).toEqual(shown[name]);
    },
  );

  const [table] = queriesOf(board).filter(({ name }) => name === "Entries, newest first");
  const rows = async (chosen: Partial<typeof everything>) => {
    const query = interpolate(table?.expr ?? "", { ...everything, ...chosen });
    const { result } = await ask("query_range", {
      query,
      start: ns(now - 6 * STEP),
      end: ns(now),
      limit: "100",
    });
    return (result as { stream: Record<string, string>; values: unknown[] }[])
      .flatMap(({ stream, values }) => values.map(() => stream))
      .sort((a, b) => Number(a["seq"]) - Number(b["seq"]));
  };

  test("the table of entries shows each once, with its columns", async () => {
    const all = await rows({});
    expect(all.map(({ seq }) => Number(seq))).toEqual(entries.map(({ seq }) => seq));
    expect(all[5]).toMatchObject({
      ...{ action: "get_key", outcome: "success", username: "ada", actor_type: "api_key", key_id: "key_1" },
      ...{ target_type: "item", target: 'odd "b"', request_id: "req-6", event_id: entries[5]?.id },
    });
    expect(all[7]).toMatchObject({ reason: "insufficient_scope" });
  });

  test("the variables narrow it: by action, by outcome, by a text with quotes in it", async () => {
    const seqs = async (chosen: Partial<typeof everything>) =>
      (await rows(chosen)).map(({ seq }) => Number(seq));
    expect(await seqs({ action: "(get_key|delete_key)" })).toEqual([5, 6, 7, 8]);
    expect(await seqs({ outcome: "(denied|failure)" })).toEqual([1, 7, 8, 9]);
    expect(await seqs({ contains: 'odd \\"b\\"' })).toEqual([6]);
    expect(await seqs({ contains: "eve" })).toEqual([7, 8]);
  });

  test("the variable of actions lists those that the tenant has", async () => {
    const variable = board.templating.list.find(({ name }) => name === "action");
    const { label, stream } = variable?.query ?? {};
    const search = { query: stream, start: ns(now - 6 * STEP), end: ns(now) };
    expect(await ask(`label/${label}/values`, search)).toEqual(
      Object.keys(shown["Activity by action"] ?? {}).sort(),
    );
  });

  test("every query of the dashboard is among these", () => {
    expect(
      queriesOf(board)
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...Object.keys(shown), table?.name].sort());
  });
});
