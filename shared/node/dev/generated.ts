/** Files that are made from the code, by their paths. Each is committed, and a test proves that it is current. */
import { readFileSync } from "node:fs";
import { httpRoutes } from "./manifests/http-routes.ts";
import { nginxConfiguration } from "./manifests/nginx.ts";
import { knativeServices } from "./manifests/services.ts";
import { toYaml } from "./manifests/to-yaml.ts";
import { auditDashboard } from "./monitoring/audit-dashboard.ts";
import { recordingRules } from "./monitoring/recording-rules.ts";
import { serviceDashboard } from "./monitoring/service-dashboard.ts";
import { withGeneratedParts } from "./readme.ts";

const alerts = new URL("../../../k8s/prometheus/rules/alerts.yml", import.meta.url);

export const generated: Readonly<Record<string, (current: string) => string | Promise<string>>> = {
  "README.md": withGeneratedParts,
  "k8s/grafana/dashboards/audit.json": auditDashboard,
  "k8s/grafana/dashboards/service.json": serviceDashboard,
  "k8s/prometheus/rules/recording.yml": () =>
    recordingRules([serviceDashboard(), readFileSync(alerts, "utf8")]),
  "k8s/components/nginx-gateway/nginx.conf": nginxConfiguration,
  "k8s/gateway/httproutes.yaml": () => toYaml(httpRoutes()),
  "knative/services.yaml": async () => toYaml(await knativeServices()),
};
