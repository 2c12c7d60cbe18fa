/** Dashboards, alerts and recording rules as files: whether they fit each other and the code. monitoring.test.ts runs them. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { exportedMetrics } from "../../shared/node/dev/monitoring/exported-metrics.ts";
import { functionIds } from "../../shared/node/functions.ts";
import { dashboard, dashboards, type Panel, queriesOf } from "../support/dashboards.ts";
import { hasPrometheus } from "../support/prometheus.ts";

const root = new URL("../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
const alerts: readonly Alert[] = parse(read("k8s/prometheus/rules/alerts.yml")).groups[0].rules;
const panels = dashboards.flatMap((one) => one.panels);
const charts = panels.filter(({ type }) => type !== "row");

describe.each(dashboards)("$file", ({ uid, title, description, panels, templating }) => {
  test("has a uid of its own, a title and a description", () => {
    expect(dashboards.filter((one) => one.uid === uid)).toHaveLength(1);
    expect(title).toMatch(/^Latchkey: /);
    expect(description).toMatch(/^[A-Z].{30,}\.$/);
  });

  test("has panels that lie side by side, not over each other, and have ids of their own", () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ id, gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => ({ id, column: x + (i % w), row: y + Math.floor(i / w) })),
    );
    expect(Math.max(...cells.map(({ column }) => column))).toBeLessThan(24);
    expect(new Set(cells.map(({ column, row }) => `${column} ${row}`)).size).toBe(cells.length);
  });

  test("asks the provisioned Prometheus, or the Loki that its own variable chooses", () => {
    const chosen = templating.list
      .filter(({ type }) => type === "datasource")
      .map(({ name, query }) => [name, query]);
    const [{ type, uid }] = parse(read("k8s/grafana/datasources/prometheus.yaml")).datasources;
    const known = [{ type, uid }, ...chosen.map(([name, type]) => ({ type, uid: `\${${name}}` }))];
    const asked = [
      ...panels.flatMap(({ datasource, targets = [] }) => [
        datasource,
        ...targets.map((one) => one.datasource),
      ]),
      ...templating.list.map(({ datasource }) => datasource),
    ];
    for (const datasource of asked) if (datasource !== undefined) expect(known).toContainEqual(datasource);
  });
});

test("every dashboard and every file of rules is mounted", () => {
  const mounted = (folder: string): string[] =>
    parse(read(`k8s/${folder}/kustomization.yaml`)).configMapGenerator.flatMap(
      ({ files }: { files: string[] }) => files,
    );
  expect(mounted("grafana")).toEqual(
    expect.arrayContaining(dashboards.map(({ file }) => `dashboards/${file}`)),
  );
  const rules = readdirSync(new URL("k8s/prometheus/rules/", root)).map((file) => `rules/${file}`);
  expect(mounted("prometheus")).toEqual(expect.arrayContaining(["prometheus.yml", ...rules]));
});

test.each(charts.map((panel): [string, Panel] => [panel.title, panel]))(
  "the panel %s says in its title, a sentence and a unit what it shows",
  (title, { description, fieldConfig, targets = [] }) => {
    expect(title).toMatch(/^[A-Z][\w ',%-]{6,59}$/);
    expect(description).toMatch(/^\S.{20,160}\.$/);
    expect(fieldConfig?.defaults.unit).toMatch(/^(short|s|reqps|ops|bytes|percentunit|string)$/);
    expect(targets.length).toBeGreaterThan(0);
  },
);

test("every metric that a query uses is one that the code exports", () => {
  const rules = parse(read("k8s/prometheus/rules/recording.yml")).groups[0].rules as {
    record: string;
    expr: string;
  }[];
  const recorded = rules.map(({ record }) => record);
  const exported = exportedMetrics().flatMap(({ name, type }) =>
    type === "histogram" ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name],
  );
  const queries = [...queriesOf(dashboard("latchkey-service")), ...alerts, ...rules].map(({ expr }) => expr);
  const names = new Set(queries.flatMap((expr) => expr.match(/(?<![\w:])latchkey[_:][\w:]+/g) ?? []));
  expect(names.size).toBeGreaterThan(30);
  for (const name of names) expect(name.includes(":") ? recorded : exported).toContain(name);
  for (const name of recorded) expect([name, names.has(name)]).toEqual([name, true]);
});

test("no recorded window ends before all that was asked in it has been answered: a scrape interval ago", () => {
  const seconds = (text: string) => Number(/^(\d+)s$/.exec(text)?.[1]);
  const { scrape_interval } = parse(read("k8s/prometheus/prometheus.yml")).global;
  // Which of two ranges is read: that of this minute, or all before it, which ends a minute earlier.
  const ends = [...read("k8s/prometheus/rules/recording.yml").matchAll(/\[(1m|1h)\](?: offset (\w+))?/g)];
  expect(ends.length).toBeGreaterThan(50);
  const since = { "1m": seconds(scrape_interval), "1h": seconds(scrape_interval) + 60 };
  for (const [, range, offset = "0s"] of ends)
    expect([range, seconds(offset)]).toEqual([range, since[range as keyof typeof since]]);
});

test("no query adds up or shows pods: they come and go", () => {
  const queries = [...dashboards.flatMap(queriesOf), ...alerts];
  for (const { expr } of queries)
    expect(expr).not.toMatch(/\b(instance|pod|revision|increase|i?rate)\b(?!1m)/);
});

test.each(alerts.map((one): [string, Alert] => [one.alert, one]))(
  "%s has a severity, a summary and a runbook whose panels and alerts exist",
  (_, { labels, annotations: { summary, runbook = "" } }) => {
    expect(labels).toEqual({ severity: expect.stringMatching(/^(warning|critical)$/) });
    expect(summary).toMatch(/^.{30,100}$/);
    expect(runbook).toMatch(/^\S.{80,}\.$/);
    const titles = charts.map(({ title }) => title);
    for (const [, name] of runbook.matchAll(/"([A-Z][^"]+)"/g)) expect(titles).toContain(name);
    for (const [name] of runbook.matchAll(/\bLatchkey\w+/g))
      expect(alerts.map(({ alert }) => alert)).toContain(name);
  },
);

test("functions that alerts name exist", () => {
  const named = alerts.flatMap(({ expr }) =>
    [...expr.matchAll(/function(?:=|!=|!~)"([^"]+)"/g)].map(([, id = ""]) => id),
  );
  expect(named.length).toBeGreaterThan(3);
  for (const pattern of named.flatMap((one) => one.split("|"))) {
    expect([pattern, functionIds.some((id) => new RegExp(`^${pattern}$`).test(id))]).toEqual([pattern, true]);
  }
});

test("functions without a caller who waits are left out where slow answers are an alert", () => {
  const expr = alerts.find(({ alert }) => alert === "LatchkeySlow")?.expr ?? "";
  const [, excluded = ""] = /function!~"([^"]+)"/.exec(expr) ?? [];
  expect(functionIds.filter((id) => new RegExp(`^(${excluded})$`).test(id)).sort()).toEqual([
    ...[
      "audit-dead-letter",
      "audit-list",
      "audit-relay",
      "audit-ship",
      "audit-verify",
      "data-expire",
      "token-issue",
    ],
  ]);
});

describe.skipIf(!hasPrometheus)(
  `promtool${hasPrometheus ? "" : ": there is none on the PATH (Debian package prometheus)"}`,
  () => {
    const promtool = (...args: string[]) =>
      execFileSync("promtool", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

    test("the rules are valid, and no two record the same", () => {
      const said = promtool(
        "check",
        "rules",
        "--lint-fatal",
        ...["alerts", "recording"].map((name) => `k8s/prometheus/rules/${name}.yml`),
      );
      expect(said).toContain(`SUCCESS: ${alerts.length} rules found`);
    });

    test("every alert fires when it should and not when it should not", () => {
      const cases = read("test/k8s/alerts.promtool.yml");
      for (const { alert } of alerts) expect(cases).toContain(`alertname="${alert}", alertstate="firing"`);
      promtool("test", "rules", "test/k8s/alerts.promtool.yml");
    });

    test("recorded growth is exact for pods that come, go and start again", () => {
      promtool("test", "rules", "test/k8s/recording.promtool.yml");
    });
  },
);
