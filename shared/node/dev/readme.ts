/** The parts of the README that are made from the code, between `<!-- generated:<name> -->` and `<!-- end -->`. */
import { environment } from "../../config.ts";
import { rolesHolding } from "../../permissions.ts";
import { problemTable } from "../../problems.ts";
import { eventRoutes, type Route, routes } from "../../routes.ts";
import { secretFields } from "../../secrets.ts";
import { exportedMetrics } from "./monitoring/exported-metrics.ts";
import { walkthroughText } from "./walkthrough.ts";

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

function endpoints(): string {
  const who = ({ credential, permission }: Route): string => {
    if (credential === "none") return "anybody";
    const roles = rolesHolding(permission === undefined ? [] : [permission]).map((role) => `\`${role}\``);
    return [roles.join(", "), ...(credential === "any" ? [`API keys with \`${permission}\``] : [])].join(
      "; ",
    );
  };
  const rows = (routes as readonly Route[]).map((route) => [
    `[\`${route.id}\`](functions/${route.id}.ts)`,
    `\`${route.method} ${route.path}\``,
    route.summary,
    who(route),
    [route.audit, route.auditDenied ?? []]
      .flat()
      .map((action) => `\`${action}\``)
      .join(", "),
  ]);
  return table(["Function", "Route", "What it does", "Who may", "Audit action"], rows);
}

function configuration(): string {
  const secrets = secretFields(environment);
  const rows = Object.entries(environment.shape).map(([name, schema]) => {
    const byDefault = schema.safeParse(undefined);
    const value = byDefault.success ? byDefault.data : "required";
    const shown = value === undefined ? "none" : value === "required" ? "**required**" : `\`${value}\``;
    return [`\`${name}\``, shown, `${schema.description}.${secrets.includes(name) ? " Secret." : ""}`];
  });
  return table(["Variable", "Default", "Meaning"], rows);
}

const events = (): string =>
  table(
    ["Function", "Route", "What it does"],
    eventRoutes.map(({ id, method, path, summary }) => [
      `[\`${id}\`](functions/${id}.ts)`,
      `\`${method} ${path}\``,
      summary,
    ]),
  );

const problems = (): string =>
  table(
    ["Status", "`code`", "Title"],
    Object.entries(problemTable).map(([code, [status, title]]) => [String(status), `\`${code}\``, title]),
  );

const metrics = (): string =>
  table(
    ["Metric", "Type", "Labels", "Meaning"],
    exportedMetrics().map(({ name, type, labelNames, help }) => [
      `\`${name}\``,
      type,
      labelNames.map((label) => `\`${label}\``).join(", "),
      `${help}.`,
    ]),
  );

const walkthrough = (): string => `\`\`\`sh\n${walkthroughText("http://127.0.0.1:8080")}\`\`\``;

const parts: Record<string, () => string> = {
  endpoints,
  events,
  configuration,
  problems,
  metrics,
  walkthrough,
};

/** A README with its generated parts as they should be today. */
export const withGeneratedParts = (readme: string): string =>
  readme.replaceAll(/(<!-- generated:(\w+) -->\n).*?(<!-- end -->)/gs, (_, begin, name, end) => {
    const part = parts[name];
    if (part === undefined) throw new Error(`The README asks for a part that nobody makes: ${name}`);
    return `${begin}${part()}\n${end}`;
  });
