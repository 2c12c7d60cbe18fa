/**
 * The image without a registry: the Dockerfile is built on base images made of this machine's own node, the libraries
 * that it is linked against, and the packages that npm has installed here. For tests and for clusters without Internet;
 * whoever publishes an image builds the Dockerfile as it is. Linux only.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Of a container: explicit, because the defaults of podman can be above what an unprivileged machine allows. */
export const LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/** crun, podman's default, needs cgroup rights that a sandbox may not have. */
export const podman = (...args: string[]): string =>
  execFileSync("podman", ["--runtime", "runc", ...args], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });

/** Build the image under this name. */
export function buildLocalImage(name: string): void {
  const folder = mkdtempSync(join(tmpdir(), "latchkey-image-"));
  try {
    const runtime = `${name}-base-runtime`;
    const node = `${name}-base-node`;
    buildFrom(folder, runtime, "scratch", copyLibraries);
    buildFrom(folder, node, runtime, copyNode);
    build(name, root, "--build-arg", `NODE_IMAGE=${node}`, "--build-arg", `RUNTIME_IMAGE=${runtime}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The packages are here already and npm is only to look for them, so nothing may ask for a registry. */
const build = (name: string, context: string, ...options: string[]): string =>
  podman(
    "build",
    ...LIMITS,
    "--layers=false",
    "--network",
    "none",
    "--pull=never",
    ...options,
    "--tag",
    name,
    context,
  );

function buildFrom(folder: string, name: string, base: string, fill: (files: string) => void): void {
  const context = join(folder, name);
  fill(join(context, "files"));
  writeFileSync(join(context, "Dockerfile"), `FROM ${base}\nCOPY files /\n`);
  build(name, context);
}

function copyLibraries(files: string): void {
  const native = globSync(join(root, "node_modules/@node-rs/argon2-*/*.node"));
  const linked = execFileSync("ldd", [process.execPath, ...native], { encoding: "utf8" });
  // "    libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)", or without the arrow.
  const libraries = [...linked.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => String(path));
  for (const library of new Set(libraries)) copy(library, join(files, library));
}

function copyNode(files: string): void {
  copy(process.execPath, join(files, "usr/local/bin/node"));
  writeFileSync(join(files, "usr/local/LICENSE"), "https://github.com/nodejs/node/blob/main/LICENSE\n");
  mkdirSync(join(files, "tmp"));
  chmodSync(join(files, "tmp"), 0o1777);
  for (const path of neededPackages()) copy(join(root, path), join(files, "packages", path));
  // In place of npm: `npm ci` finds what it would have installed.
  const npm = join(files, "usr/local/bin/npm");
  writeFileSync(
    npm,
    '#!/usr/local/bin/node\nrequire("node:fs").cpSync("/packages", ".", { recursive: true });\n',
  );
  chmodSync(npm, 0o755);
}

/** What runs and what bundles it, of the packages that npm has installed. */
function neededPackages(): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, "node_modules/.package-lock.json"), "utf8"));
  return Object.keys(packages).filter((path) => !packages[path].dev || /\/(@esbuild\/|esbuild$)/.test(path));
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
