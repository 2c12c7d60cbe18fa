/** The dashboards as they are shipped, and their queries as Grafana would send them. */
import { readdirSync, readFileSync } from "node:fs";

const folder = new URL("../../k8s/grafana/dashboards/", import.meta.url);

interface Datasource {
  readonly type: string;
  readonly uid: string;
}
interface Target {
  readonly refId: string;
  readonly datasource: Datasource;
  readonly expr: string;
  readonly legendFormat: string;
  /** Prometheus. */
  readonly instant?: boolean;
  /** Loki. */
  readonly queryType?: "instant" | "range";
}
export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: Datasource;
  readonly targets?: readonly Target[];
  readonly interval?: string;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}
interface Variable {
  readonly name: string;
  readonly type: string;
  readonly datasource?: Datasource;
  // biome-ignore lint/suspicious/noExplicitAny: every type of variable has a query of its own shape
  readonly query: any;
  readonly allValue?: string;
}
export interface Dashboard {
  readonly file: string;
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly Panel[];
}

export const dashboards: readonly Dashboard[] = readdirSync(folder)
  .filter((file) => file.endsWith(".json"))
  .map((file) => ({ file, ...JSON.parse(readFileSync(new URL(file, folder), "utf8")) }));

export function dashboard(uid: string): Dashboard {
  const found = dashboards.find((one) => one.uid === uid);
  if (found === undefined) throw new Error(`There is no dashboard ${uid}`);
  return found;
}

/** All queries of its panels. */
export const queriesOf = ({ panels }: Dashboard) =>
  panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, instant, queryType, refId }) => ({
      name: targets.length === 1 ? title : `${title} (${refId})`,
      expr,
      isInstant: instant === true || queryType === "instant",
    })),
  );

/** What Grafana puts in place of variables. A name that nobody has given fails, as it would stay in the query there. */
export function interpolate(expr: string, values: Readonly<Record<string, string>>): string {
  return expr.replaceAll(
    /\$(?:\{(\w+)(?::(\w+))?\}|(\w+))/g,
    (_, braced?: string, format?: string, bare?: string) => {
      const name = braced ?? bare ?? "";
      const value = values[name];
      if (value === undefined) throw new Error(`No variable ${name}`);
      // "Escapes double quotes and puts the value in them", as Grafana's formats are documented.
      return format === "doublequote" ? `"${value.replaceAll(/["\\]/g, "\\$&")}"` : value;
    },
  );
}
