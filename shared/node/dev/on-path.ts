import { existsSync } from "node:fs";
import { join } from "node:path";

/** Whether a command can be found. */
export const onPath = (command: string): boolean =>
  (process.env["PATH"] ?? "").split(":").some((folder) => folder !== "" && existsSync(join(folder, command)));
