/** `npm run image [-- <name>]`: the image `latchkey`, or another name, by podman and without a registry. */
import { buildLocalImage } from "./local-image.ts";

const name = process.argv[2] ?? "latchkey";
buildLocalImage(name);
process.stdout.write(`Built ${name}\n`);
