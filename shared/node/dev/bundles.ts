/**
 * The functions as single files, for an image: `<id>.js` holds one function and only what its process uses, `all.js`
 * all of them, `admin.js` the operators' commands. What cannot be in such a file, native code, is put beside them.
 * These are in `bundles/`; files of the same names above it run them (`shared/node/program.ts` says why).
 */
import { cpSync, existsSync, globSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build, type Plugin } from "esbuild";
import { hasPublicRoute, type Servable } from "../../function.ts";
import { routes } from "../../routes.ts";
import { functionIds, loadFunctions } from "../functions.ts";
import { BUNDLE_HEAD, BUNDLE_TAIL } from "../program.ts";
import { type BundledPackage, licenseTexts, packageAt, sbom } from "./packages.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const lateFetch = join(root, "shared/node/late-fetch.ts");

/** Hashes passwords by native code, which cannot be in a bundle. */
const NATIVE = "@node-rs/argon2";
/** Its build for this platform, taken at once: the package looks for the one that fits, 6 ms of a start. */
const nativeBuild = onlyBuild();

/** What is imported lazily, and the processes that ever do so: it is left out of the bundles of all others. */
const lazy: Readonly<Record<string, (functions: readonly Servable[]) => boolean>> = {
  "./passwords.ts": (functions) => functions.some(({ needs }) => needs.includes("passwords")),
  "../tokens.ts": (functions) => functions.some(hasPublicRoute),
  cloudevents: (functions) => functions.some(hasPublicRoute),
};

/**
 * What packages load and nothing here uses, a tenth of a function's start, by the package: `debug` looks for colours of a
 * terminal, @hono/node-server for requests of HTTP/2, which our servers do not speak; pino can write in threads, and asks
 * whether it is in one; prom-client has summaries, pushes, and reads traces.
 */
const unused: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  debug: { "supports-color": "export {};" },
  "@hono/node-server": {
    "node:http2": "export class Http2ServerRequest {} export const constants = {};",
  },
  pino: { "thread-stream": "export {};", worker_threads: "export const isMainThread = true;" },
  "prom-client": {
    tdigest: "export {};",
    "./lib/pushgateway": "export {};",
    "@opentelemetry/api": "export {};",
  },
};

/** The bill of materials; a folder that has one is ours. */
const BILL = "sbom.cdx.json";

export const bundleNames: readonly string[] = [...functionIds, "all", "admin"];
export const bundlePath = (folder: string, name: string): string => join(folder, "bundles", `${name}.js`);

export interface Bundle {
  readonly bytes: number;
  /** The files that are in it, relative to the repository, and their bytes before and after. */
  readonly inputs: Readonly<Record<string, { readonly before: number; readonly after: number }>>;
}

/**
 * Write all bundles into a folder, in place of those that it may hold. @returns what each holds, by its name
 * @throws when the folder holds anything else
 */
export async function writeBundles(folder: string): Promise<Record<string, Bundle>> {
  const isOurs = !existsSync(folder) || existsSync(join(folder, BILL)) || readdirSync(folder).length === 0;
  if (!isOurs) throw new Error(`${folder} holds something else`);
  rmSync(folder, { recursive: true, force: true });
  const bundles: Record<string, Bundle> = {};
  for (const name of bundleNames) {
    bundles[name] = await writeBundle(name, bundlePath(folder, name));
    await writeStarter(name, folder);
  }
  const packages = [...copyNative(folder), ...Object.values(bundles).flatMap(packagesIn)];
  writeFileSync(join(folder, "package.json"), '{ "type": "commonjs" }\n');
  writeFileSync(join(folder, BILL), sbom(root, packages));
  writeFileSync(join(folder, "THIRD-PARTY-LICENSES.txt"), licenseTexts(packages));
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  return bundles;
}

export const packagesIn = ({ inputs }: Bundle): BundledPackage[] =>
  Object.keys(inputs).flatMap((file) => packageAt(root, file) ?? []);

const options = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  // Starts a twentieth faster than an ES module, with a twentieth less memory: Node does not load its ESM loader.
  format: "cjs",
  logOverride: { "empty-import-meta": "error" },
  platform: "node",
  target: "node24",
  legalComments: "none",
} satisfies BuildOptions;

/** What the argument of the image names: `<name>.js`, which runs the bundle of that name. */
async function writeStarter(name: string, folder: string): Promise<void> {
  const contents = `import { runBundle } from "./shared/node/program.ts";
    runBundle(require.resolve("./bundles/${name}.js"));`;
  await build({
    ...options,
    stdin: { contents, resolveDir: root, loader: "ts" },
    external: ["./bundles/*"],
    outfile: join(folder, `${name}.js`),
  });
}

async function writeBundle(name: string, file: string): Promise<Bundle> {
  const { metafile } = await build({
    ...options,
    stdin: { contents: entry(name), resolveDir: root, sourcefile: `${name}.ts`, loader: "ts" },
    outfile: file,
    banner: { js: BUNDLE_HEAD },
    footer: { js: BUNDLE_TAIL },
    alias: { [NATIVE]: nativeBuild },
    external: [nativeBuild],
    inject: [lateFetch],
    define: { Headers: "lateFetch.Headers", Request: "lateFetch.Request", Response: "lateFetch.Response" },
    plugins: [leaveOut((await loadFunctions(name)) ?? []), embedLua, quickIoredis, lightServer],
    metafile: true,
  });
  const [output] = Object.values(metafile.outputs);
  if (output === undefined) throw new Error(`esbuild wrote nothing for ${name}`);
  const inputs = Object.entries(output.inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(
      ([file, { bytesInOutput }]) =>
        [file, { before: metafile.inputs[file]?.bytes ?? 0, after: bytesInOutput }] as const,
    );
  return { bytes: output.bytes, inputs: Object.fromEntries(inputs) };
}

/** The program that a bundle is made of. */
function entry(name: string): string {
  if (name === "admin") return 'import "./shared/node/admin.ts";';
  if (name !== "all") {
    return `import * as own from "./functions/${name}.ts";
      import { run, servablesOf } from "./shared/node/run.ts";
      void run(servablesOf(own));`;
  }
  const imports = routes.map(({ id }, index) => `import f${index} from "./functions/${id}.ts";`);
  return `${imports.join("")}
    import { run } from "./shared/node/run.ts";
    void run([${routes.map((_, index) => `f${index}`)}]);`;
}

const leaveOut = (functions: readonly Servable[]): Plugin => ({
  name: "leave-out",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /./ }, ({ importer, kind, path }) => {
      const from = Object.keys(unused).find((name) => importer.includes(`/node_modules/${name}/`));
      const instead = from === undefined ? undefined : unused[from]?.[path];
      if (instead !== undefined) return { path, namespace: "unused", pluginData: instead };
      const isNeeded = kind !== "dynamic-import" || (lazy[path]?.(functions) ?? true);
      return isNeeded ? undefined : { path, namespace: "left-out" };
    });
    onLoad({ filter: /./, namespace: "unused" }, ({ pluginData }) => ({ contents: pluginData }));
    onLoad({ filter: /./, namespace: "left-out" }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is no part of this bundle`)});`,
    }));
  },
});

/** The texts of the Lua files in place of the module that reads them. */
const embedLua: Plugin = {
  name: "embed-lua",
  setup({ onLoad }) {
    onLoad({ filter: /\/shared\/redis\/lua-files\.ts$/ }, ({ path }) => {
      const folder = join(path, "../lua");
      const texts = globSync("**/*.lua", { cwd: folder })
        .sort()
        .map((file) => [file.replace(/\.lua$/, ""), readFileSync(join(folder, file), "utf8")] as const);
      return {
        contents: `const texts = ${JSON.stringify(Object.fromEntries(texts))}; export const readLua = (name) => texts[name];`,
      };
    });
  },
};

/**
 * ioredis adds 600 methods to a prototype one by one, and V8 copies the prototype's shape for each: a tenth of a
 * function's start, and 6 MiB. A property that was deleted makes it a dictionary, which takes them as they come; V8 gives
 * it a shape again when it is used.
 */
const quickIoredis: Plugin = {
  name: "quick-ioredis",
  setup({ onLoad }) {
    const loop = "commands.forEach(";
    onLoad({ filter: /\/ioredis\/built\/utils\/Commander\.js$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      if (!text.includes(loop)) throw new Error(`ioredis has changed, so this may be needless: ${path}`);
      return {
        contents: text.replace(loop, `Commander.prototype._ = 0; delete Commander.prototype._; ${loop}`),
      };
    });
  },
};

/**
 * Importing @hono/node-server would load Node's fetch, a sixth of a function's start: what it looks for in the global object
 * it finds elsewhere.
 */
const lightServer: Plugin = {
  name: "light-server",
  setup({ onLoad }) {
    onLoad({ filter: /\/@hono\/node-server\/dist\/index\.mjs$/ }, ({ path }) => ({
      contents: `import { lateFetch as global, lateFetch as globalThis } from ${JSON.stringify(lateFetch)};
        ${readFileSync(path, "utf8")}`,
    }));
  },
};

function onlyBuild(): string {
  const builds = globSync(`${NATIVE}-*`, { cwd: join(root, "node_modules") });
  const [build] = builds;
  if (build === undefined || builds.length > 1) {
    throw new Error(`Expected npm to have installed one build of ${NATIVE}, found: ${builds.join(" ")}`);
  }
  return build;
}

function copyNative(folder: string): BundledPackage[] {
  const directory = `node_modules/${nativeBuild}`;
  cpSync(join(root, directory), join(folder, directory), {
    recursive: true,
    filter: (file) => !/\.md$/.test(file),
  });
  // The build comes without the license of the package.
  return [NATIVE, nativeBuild].flatMap((name) => packageAt(root, `node_modules/${name}/package.json`) ?? []);
}
