/**
 * Manifests as a cluster would get them: what kustomize makes of a folder, parsed. No cluster is needed, only `kubectl`
 * (1.27 or newer) or `kustomize`; suites are skipped by name where neither is found.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, test } from "vitest";
import { parseAllDocuments } from "yaml";

/** An object of Kubernetes. `Rest` is what the reader knows about its kind: `{ spec: … }`, `{ data: … }`. */
export type Manifest<Rest = unknown> = Rest & {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
};

const root = fileURLToPath(new URL("../../", import.meta.url));

const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 * 1024 * 1024,
  });

/** Components and JSON 6902 patches as they are used here need kustomize 5, which kubectl has since 1.27. */
function findRenderer(): readonly [command: string, argument: string] | undefined {
  try {
    const { kustomizeVersion = "" } = JSON.parse(run("kubectl", ["version", "--client", "--output=json"]));
    if (/^v([5-9]|\d\d)\./.test(kustomizeVersion)) return ["kubectl", "kustomize"];
  } catch {
    // There is no kubectl, or it is too old to say.
  }
  try {
    run("kustomize", ["version"]);
    return ["kustomize", "build"];
  } catch {
    return undefined;
  }
}

const renderer = findRenderer();

/** `describe` for tests that render. Where that cannot be done one skipped test stands for all and says why. */
export function describeRendered(name: string, tests: () => void): void {
  const cannot = () => test.skip("neither kubectl 1.27 or newer nor kustomize is on the PATH", () => {});
  describe(name, renderer === undefined ? cannot : tests);
}

function renderFolder(folder: string): readonly Manifest[] {
  if (renderer === undefined) throw new Error("Render within describeRendered()");
  const [command, argument] = renderer;
  return parseAllDocuments(run(command, [argument, folder])).map((document) => {
    if (document.errors.length > 0) throw new Error(`${folder}: ${document.errors[0]?.message}`);
    return document.toJS();
  });
}

const rendered = new Map<string, readonly Manifest[]>();

/**
 * What `kubectl apply -k <folder>` would send, in its order.
 * @param folder from the repository's root, `k8s/overlays/dev`
 */
export function render(folder: string): readonly Manifest[] {
  const objects = rendered.get(folder) ?? renderFolder(folder);
  rendered.set(folder, objects);
  return objects;
}

interface Kustomization {
  /** Folders from the repository's root. */
  readonly resources: readonly string[];
  readonly components?: readonly string[];
  readonly [field: string]: unknown;
}

/** The same of a kustomization that stands in no folder: what an operator might put on top of ours. */
export function renderOnTop({ resources, components = [], ...rest }: Kustomization): readonly Manifest[] {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-kustomization-"));
  try {
    const fromHere = (path: string) => relative(folder, join(root, path));
    const content = {
      resources: resources.map(fromHere),
      components: components.map(fromHere),
      ...rest,
    };
    writeFileSync(join(folder, "kustomization.yaml"), JSON.stringify(content));
    return renderFolder(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Those of one kind. `apiVersion` tells kinds of one name apart: Knative's Service is `serving.knative.dev/v1`. */
export const ofKind = <Rest = unknown>(
  objects: readonly Manifest[],
  apiVersion: string,
  kind: string,
): Manifest<Rest>[] =>
  objects.filter((one) => one.apiVersion === apiVersion && one.kind === kind) as Manifest<Rest>[];
