/** Files that are made from the code, by their paths. Each is committed, and a test proves that it is current. */
import { httpRoutes } from "./manifests/http-routes.ts";
import { knativeServices } from "./manifests/services.ts";
import { toYaml } from "./manifests/to-yaml.ts";
import { withGeneratedParts } from "./readme.ts";

export const generated: Readonly<Record<string, (current: string) => string | Promise<string>>> = {
  "README.md": withGeneratedParts,
  "k8s/gateway/httproutes.yaml": () => toYaml(httpRoutes()),
  "knative/services.yaml": async () => toYaml(await knativeServices()),
};
