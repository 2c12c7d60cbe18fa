/** Folders for data that no other user of the machine is to read. */
import { chmodSync, mkdirSync } from "node:fs";

/** Make a folder, and its parents, that only its owner can enter; an existing one is closed to others. */
export function makePrivate(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  chmodSync(folder, 0o700);
}
