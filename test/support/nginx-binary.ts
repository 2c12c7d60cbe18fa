import { existsSync } from "node:fs";
import { join } from "node:path";

/** Also where distributions put what only administrators run. */
const FOLDERS = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];

/** Of nginx; undefined where it is not installed. */
export const nginxBinary = (): string | undefined =>
  FOLDERS.filter((folder) => folder !== "")
    .map((folder) => join(folder, "nginx"))
    .find((file) => existsSync(file));
