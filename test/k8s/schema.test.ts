/**
 * Every field of every object of Kubernetes' own is one that Kubernetes knows, of the type that it takes: the API server
 * only warns of a misspelled one and drops it. TypeScript checks the objects as literals of the types made from
 * Kubernetes' own OpenAPI; what is a custom resource has tests of its own.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { variants } from "./overlays.ts";
import { describeRendered, type Manifest } from "./render.ts";

const packages = fileURLToPath(new URL("../../node_modules/", import.meta.url));

/** Where the types of an API are. */
const modules: Readonly<Record<string, string>> = {
  v1: "core/v1",
  "apps/v1": "apps/v1",
  "batch/v1": "batch/v1",
  "networking.k8s.io/v1": "networking/v1",
  "policy/v1": "policy/v1",
  "rbac.authorization.k8s.io/v1": "rbac/v1",
};
const known = ({ apiVersion }: Manifest): boolean => apiVersion in modules;

/** What the compiler says of these objects, a line for each problem. */
function problemsOf(objects: readonly Manifest[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-schema-"));
  try {
    const lines = objects.map((one, at) => {
      const type = `import(${JSON.stringify(`${packages}kubernetes-types/${modules[one.apiVersion]}.d.ts`)}).${one.kind}`;
      return `export const object${at}: ${type} = ${JSON.stringify(one)};`;
    });
    writeFileSync(join(folder, "objects.ts"), lines.join("\n"));
    const { stdout, status } = spawnSync(
      join(packages, ".bin/tsc"),
      ["--noEmit", "--strict", "--skipLibCheck", "--types", "", "objects.ts"],
      { cwd: folder, encoding: "utf8", timeout: 30_000 },
    );
    const problems = stdout.split("\n").filter(Boolean);
    // Out of time, or not a compiler: silence is no consent then.
    if ((status === 0) !== (problems.length === 0)) throw new Error(`tsc ended with ${status}`);
    return problems;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describeRendered("Kubernetes' own schema", () => {
  test("takes every object of every overlay and component", () => {
    const objects = Object.values(variants).flatMap((variant) => variant.render().filter(known));
    const different = new Map(objects.map((one) => [JSON.stringify(one), one]));
    expect(different.size).toBeGreaterThan(50);
    expect(problemsOf([...different.values()])).toEqual([]);
  });

  test("would refuse a misspelled field and a value of the wrong type", () => {
    const metadata = { name: "one" };
    const misspelled = {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata,
      autoMountServiceAccountToken: false,
    };
    const wrong = { apiVersion: "v1", kind: "Service", metadata, spec: { ports: [{ port: "80" }] } };
    expect(problemsOf([misspelled])[0]).toContain("'\"autoMountServiceAccountToken\"' does not exist");
    expect(problemsOf([wrong])[0]).toContain("Type 'string' is not assignable to type 'number'");
  });
});
