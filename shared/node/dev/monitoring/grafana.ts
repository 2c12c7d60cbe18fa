/**
 * Grafana dashboards as JSON, from as little as says what they show. The shape is that of Grafana 10 to 12
 * (schemaVersion 39); what is left out takes Grafana's default.
 */

interface Datasource {
  readonly type: "prometheus" | "loki";
  readonly uid: string;
}

/** Queries have this range and step where a panel draws a line: recorded growth is one number a minute. */
const STEP = "1m";

interface Query {
  readonly expr: string;
  /** Name of a series; `{{label}}` stands for a label's value. */
  readonly legend?: string;
}

export interface Panel {
  readonly title: string;
  /** What it tells, and what to do with it. */
  readonly description: string;
  /** One number, lines over time, columns over time on top of each other, a list of the largest, or log lines as rows. */
  readonly show: "number" | "lines" | "columns" | "ranking" | "entries";
  /** Grafana's name of the unit. */
  readonly unit: string;
  /** Of 24 columns. */
  readonly width: number;
  readonly queries: readonly Query[];
  /** Values from which on a number is orange and red. */
  readonly thresholds?: readonly [orange: number, red: number];
  /** Shown where there is no data; by default that there is none. */
  readonly noValue?: string;
  readonly transformations?: readonly object[];
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  /** Of all panels. */
  readonly datasource: Datasource;
  readonly variables: readonly object[];
  readonly rows: readonly Row[];
}

const types = {
  number: "stat",
  lines: "timeseries",
  columns: "timeseries",
  ranking: "bargauge",
  entries: "table",
} as const;
const heights = { number: 4, lines: 8, columns: 8, ranking: 8, entries: 16 } as const;
const TOTAL_WIDTH = 24;

export function dashboardJson({ rows, datasource, variables, ...about }: Dashboard): string {
  let id = 0;
  let y = 0;
  const panels: object[] = [];
  for (const row of rows) {
    panels.push({
      ...{ id: ++id, type: "row", title: row.title, collapsed: false, panels: [] },
      gridPos: { x: 0, y: y++, w: TOTAL_WIDTH, h: 1 },
    });
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      if (x + panel.width > TOTAL_WIDTH) {
        y += height;
        [x, height] = [0, 0];
      }
      const gridPos = { x, y, w: panel.width, h: heights[panel.show] };
      panels.push({ id: ++id, gridPos, ...panelJson(panel, datasource) });
      x += panel.width;
      height = Math.max(height, gridPos.h);
    }
    y += height;
  }
  const dashboard = {
    ...about,
    ...{ schemaVersion: 39, editable: false, graphTooltip: 1, tags: ["latchkey"], timezone: "browser" },
    ...{ refresh: "1m", time: { from: "now-6h", to: "now" } },
    templating: { list: variables },
    panels,
  };
  return `${JSON.stringify(dashboard, undefined, 2)}\n`;
}

function panelJson(panel: Panel, datasource: Datasource): object {
  const { title, description, show, unit, thresholds, noValue, transformations } = panel;
  const instant = show === "number" || show === "ranking";
  const targets = panel.queries.map(({ expr, legend = "" }, index) => ({
    ...{ refId: String.fromCharCode(65 + index), datasource, expr, legendFormat: legend },
    ...(datasource.type === "loki" ? { queryType: instant ? "instant" : "range" } : {}),
    ...(datasource.type === "prometheus" ? { instant, range: !instant } : {}),
  }));
  return {
    ...{ type: types[show], title, description, datasource, targets },
    // Not a step below what is recorded.
    ...(instant ? {} : { interval: STEP }),
    ...(transformations === undefined ? {} : { transformations }),
    fieldConfig: {
      defaults: { unit, ...(noValue === undefined ? {} : { noValue }), ...fieldDefaults(show, thresholds) },
      overrides: [],
    },
    options: optionsOf(show),
  };
}

function fieldDefaults(show: Panel["show"], thresholds: Panel["thresholds"]): object {
  const steps = [{ color: "green", value: null }];
  const [orange, red] = thresholds ?? [];
  const limits = [
    ...(orange === undefined ? [] : [{ color: "orange", value: orange }]),
    ...(red === undefined ? [] : [{ color: "red", value: red }]),
  ];
  const colours = {
    color: { mode: "thresholds" },
    thresholds: { mode: "absolute", steps: [...steps, ...limits] },
  };
  switch (show) {
    case "number":
      return colours;
    case "lines":
      // Points show where a function ran for a minute between two pauses.
      return { min: 0, custom: { drawStyle: "line", showPoints: "auto", spanNulls: false } };
    case "columns":
      return {
        min: 0,
        custom: {
          drawStyle: "bars",
          fillOpacity: 80,
          lineWidth: 0,
          stacking: { mode: "normal", group: "A" },
        },
      };
    case "ranking":
      return { ...colours, min: 0 };
    case "entries":
      return { custom: { filterable: true } };
  }
}

function optionsOf(show: Panel["show"]): object {
  const last = { calcs: ["lastNotNull"], fields: "", values: false };
  switch (show) {
    case "number":
      return { reduceOptions: last, colorMode: "value", graphMode: "none" };
    case "lines":
    case "columns":
      return {
        legend: { displayMode: "list", placement: "bottom", showLegend: true },
        tooltip: { mode: "multi", sort: "desc" },
      };
    case "ranking":
      return { reduceOptions: last, orientation: "horizontal", displayMode: "basic", showUnfilled: false };
    case "entries":
      return { showHeader: true, cellHeight: "sm" };
  }
}
