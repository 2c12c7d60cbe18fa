import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Below all that a system gives out by itself, for connections and to those who ask for any port (Linux from 32,768 on,
 * others from 49,152), so that a port stays free while whoever has it is away; 10,000 above it is where the nodes of a
 * Redis Cluster speak to each other, which is free then too.
 */
const [FIRST, COUNT] = [10_000, 10_000] as const;
let next = Math.floor(Math.random() * COUNT);

/** A port of this machine's loopback on which nobody listens, and which this process has not been given yet. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < COUNT; tries += 1) {
    const port = FIRST + (next++ % COUNT);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await once(server, "listening").then(
      () => true,
      () => false,
    );
    server.close();
    if (isFree) return port;
  }
  throw new Error(`no port from ${FIRST} on is free`);
}
