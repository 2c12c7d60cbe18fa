/** One process at a time in a folder. */
import { rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { Failure } from "../failure.ts";

/** Tries to take a folder over: one finds what a killed process left, more only meet others who try the same. */
const ATTEMPTS = 5;

/**
 * Keep every other process out of a folder until this one ends, however it ends: by a socket on which only the living
 * answer. @returns what lets others in again  @throws {Failure} when another process is in
 */
export async function holdFolder(folder: string): Promise<() => void> {
  const socket = join(folder, "held.sock");
  for (let attempt = 1; ; attempt += 1) {
    const server = createServer((peer) => peer.destroy());
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once("error", resolve).listen(socket, () => resolve(undefined));
    });
    if (error === undefined) {
      server.unref();
      return () => void server.close();
    }
    if (error.code !== "EADDRINUSE") throw Object.assign(error, { path: socket });
    if (attempt === ATTEMPTS || (await isAnswered(socket)))
      throw new Failure("Another Latchkey is running in this folder; stop it first.");
    // A process that was killed left it.
    rmSync(socket, { force: true });
  }
}

const isAnswered = (socket: string): Promise<boolean> =>
  new Promise((resolve) => {
    const peer = connect(socket, () => {
      peer.destroy();
      resolve(true);
    });
    peer.once("error", () => resolve(false));
  });
