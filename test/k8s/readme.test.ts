/** The operators' guide names what there is: files, scripts, components, and objects that are really sent. */
import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { clusterSecrets } from "../../shared/node/dev/cluster-secrets.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { components, overlays } from "./overlays.ts";
import { describeRendered, render } from "./render.ts";

const folder = new URL("../../k8s/", import.meta.url);
const guide = readFileSync(new URL("README.md", folder), "utf8");
const all = (pattern: RegExp): string[] => [
  ...new Set([...guide.matchAll(pattern)].map(([, one]) => String(one))),
];

test("every file that it links to exists", () => {
  const links = all(/\]\((?!https?:)([^)#]+)\)/g);
  expect(links.length).toBeGreaterThan(10);
  expect(links.filter((path) => !existsSync(new URL(path, folder)))).toEqual([]);
});

test("every folder and file that kubectl is given exists, and every npm script", () => {
  const paths = all(/kubectl (?:apply|delete) -[kf] (k8s\/[\w./-]+\w)/g);
  expect(paths).toContain("k8s/overlays/dev");
  expect(paths.filter((path) => !existsSync(new URL(`../${path}`, folder)))).toEqual([]);
  const { scripts } = JSON.parse(readFileSync(new URL("../package.json", folder), "utf8"));
  expect(all(/npm run (?:--silent )?(\w+)/g).filter((script) => !(script in scripts))).toEqual([]);
});

test("it names every component and no other", () => {
  const named = all(/[Cc]omponents? `([\w-]+)`|`([\w-]+)`, which `overlays/g);
  expect(named.filter((one) => !components.includes(one))).toEqual([]);
  expect(components.filter((one) => !guide.includes(`\`${one}\``))).toEqual([]);
});

describeRendered("the operators' guide", () => {
  test("names objects that are there, in both overlays", async () => {
    const secrets = clusterSecrets(await makeSecrets("k2026")).map(({ metadata }) => metadata.name);
    for (const overlay of overlays) {
      const objects = render(overlay);
      const has = (kind: string, name: string) =>
        objects.some((one) => one.kind.toLowerCase() === kind && one.metadata.name === name);
      const workloads = [...guide.matchAll(/\b(deployment|statefulset|service)[/ ]([a-z][a-z-]*)/g)]
        .map(([, kind = "", name = ""]) => [kind, name] as const)
        // Istio makes it for the Gateway `latchkey`.
        .filter(([, name]) => name !== "latchkey-istio" && name !== "restart");
      expect(workloads.length).toBeGreaterThan(4);
      expect(workloads.filter(([kind, name]) => !has(kind, name))).toEqual([]);
    }
    const named = all(/(?:get secret|`)(latchkey-(?:jwt|keys|redis)|redis-users|grafana-admin)\b/g);
    expect(named.filter((one) => !secrets.includes(one))).toEqual([]);
  });
});
