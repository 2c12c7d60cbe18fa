/** `npm run bundle [-- <folder>]`: what the image runs, into `dist/` or another folder, and how large each file is. */
import { writeBundles } from "./bundles.ts";

const bundles = await writeBundles(process.argv[2] ?? "dist");
for (const [name, { bytes }] of Object.entries(bundles)) {
  process.stdout.write(`${name}.js ${Math.round(bytes / 1024)} KiB\n`);
}
