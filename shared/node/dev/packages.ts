/** The packages whose code an image carries: a bill of materials for scanners, and the licenses that ask to be passed on. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface BundledPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX identifier. */
  readonly license: string;
  readonly directory: string;
}

/** The package that a file belongs to; undefined for files of our own. */
export function packageAt(root: string, file: string): BundledPackage | undefined {
  const [, path] = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
  if (path === undefined) return undefined;
  const directory = join(root, path);
  const { name, version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
  return { name, version, license, directory };
}

/** Each package once, in the order of names. */
const distinct = (packages: readonly BundledPackage[]): BundledPackage[] =>
  [...new Map(packages.map((one) => [`${one.name}@${one.version}`, one]))]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, one]) => one);

/** CycloneDX 1.6, without a time or a serial number, so that the same sources make the same file. */
export function sbom(root: string, packages: readonly BundledPackage[]): string {
  const { name, version, license } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const component = (type: string, one: Omit<BundledPackage, "directory">) => {
    // Package URL specification, type npm: the scope's @ is percent-encoded.
    const purl = `pkg:npm/${one.name.replace("@", "%40")}@${one.version}`;
    const licenses = [{ license: { id: one.license } }];
    return { type, "bom-ref": purl, name: one.name, version: one.version, purl, licenses };
  };
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: { component: component("application", { name, version, license }) },
    components: distinct(packages).map((one) => component("library", one)),
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

export const licenseTexts = (packages: readonly BundledPackage[]): string =>
  distinct(packages)
    .map(({ name, version, license, directory }) => {
      const files = globSync(["LICEN[CS]E*", "licen[cs]e*", "NOTICE*"], { cwd: directory }).sort();
      const texts = files.map((file) => readFileSync(join(directory, file), "utf8").trim());
      return `${name} ${version} (${license})\n\n${texts.join("\n\n")}\n`;
    })
    .join(`\n${"-".repeat(80)}\n\n`);
