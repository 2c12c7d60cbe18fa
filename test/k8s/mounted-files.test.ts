/** Files are mounted where the programs look for them. */
import { expect, test } from "vitest";
import { parse } from "yaml";
import { variants } from "./overlays.ts";
import { containersOf, type Pod, podsOf } from "./pods.ts";
import { describeRendered, type Manifest, ofKind } from "./render.ts";

interface Data {
  readonly data: Readonly<Record<string, string>>;
}

const FILE = /\/etc\/[\w/.-]+\.(?:sh|conf|ya?ml)\b/g;

/** What a pod finds at which path, of all that comes from ConfigMaps. */
function mountedIn(pod: Pod, objects: readonly Manifest[]): Map<string, string> {
  const configMaps = new Map(
    ofKind<Data>(objects, "v1", "ConfigMap").map(({ metadata, data }) => [metadata.name, data]),
  );
  const files = new Map<string, string>();
  for (const { name, mountPath, subPath } of containersOf(pod).flatMap(
    ({ volumeMounts = [] }) => volumeMounts,
  )) {
    const source = (pod.spec.volumes ?? []).find((volume) => volume.name === name)?.configMap?.name ?? "";
    for (const [file, content] of Object.entries(configMaps.get(source) ?? {})) {
      if (subPath === undefined) files.set(`${mountPath}/${file}`, content);
      else if (subPath === file) files.set(mountPath, content);
    }
  }
  return files;
}

for (const [name, variant] of Object.entries(variants)) {
  describeRendered(`in ${name}`, () => {
    const objects = variant.render();
    const pods = podsOf(objects).filter(({ isFunction }) => !isFunction);
    const filesOf = (wanted: string) => mountedIn(pods.find((pod) => pod.name === wanted) as Pod, objects);

    test("every file that a command, an argument or a variable names is mounted", () => {
      const named = pods.flatMap((pod) =>
        containersOf(pod)
          .flatMap(({ volumeMounts: _, ...rest }) => JSON.stringify(rest).match(FILE) ?? [])
          .map((path) => [pod.name, path] as const),
      );
      const isThere = ([pod, path]: (typeof named)[number]) => filesOf(pod).has(path);
      expect(named.filter((one) => !isThere(one))).toEqual([]);
      expect([...new Set(named.map(([pod]) => pod))]).toEqual(
        expect.arrayContaining(["loki", "prometheus", "redis"]),
      );
    });

    test("Loki fills in the variables of its configuration", () => {
      const [loki] = pods.filter((pod) => pod.name === "loki").flatMap(containersOf);
      expect(loki?.args).toContain("-config.expand-env=true");
    });

    test("Prometheus finds its configuration and, beside it, its rules", () => {
      const files = filesOf("prometheus");
      const { rule_files } = parse(files.get("/etc/prometheus/prometheus.yml") ?? "");
      expect(rule_files).toEqual(["rules/*.yml"]);
      expect([...files.keys()].filter((path) => path.startsWith("/etc/prometheus/rules/")).sort()).toEqual([
        "/etc/prometheus/rules/alerts.yml",
        "/etc/prometheus/rules/recording.yml",
      ]);
    });

    test("Grafana finds its data sources, and its dashboards where it is told to look", () => {
      const files = filesOf("grafana");
      // Where it looks unless told otherwise.
      const provisioning = "/etc/grafana/provisioning";
      expect([...files.keys()]).toContain(`${provisioning}/datasources/prometheus.yaml`);
      const { providers } = parse(files.get(`${provisioning}/dashboards/dashboards.yaml`) ?? "");
      const [folder] = providers.map(({ options }: { options: { path: string } }) => options.path);
      for (const dashboard of ["service", "audit"])
        expect([...files.keys()]).toContain(`${folder}/${dashboard}.json`);
    });
  });
}
