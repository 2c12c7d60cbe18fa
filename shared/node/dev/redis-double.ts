/** Something that answers like a Redis, and like a Sentinel that names it: it is there, is the master, and knows nobody. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;
const list = (...texts: string[]): string => `*${texts.length}\r\n${texts.map(bulk).join("")}`;

/** Replies by command, in RESP3; OK to all others. */
const replies: Readonly<Record<string, (port: number) => string>> = {
  HELLO: () => `%1\r\n${bulk("proto")}:3\r\n`,
  INFO: () => bulk("loading:0"),
  SENTINEL: (port) => list("127.0.0.1", String(port)),
  WAIT: () => ":1\r\n",
  EVALSHA: () => list("not_found", "t"),
  ZRANGEBYSCORE: () => list(),
};

/** A server that must be closed, at a port that its address tells. */
export async function startRedisDouble(): Promise<Server> {
  const server = createServer((socket) => {
    const { port } = server.address() as AddressInfo;
    let received = "";
    // Programs that end do not say goodbye.
    socket.on("error", () => socket.destroy());
    socket.setEncoding("latin1").on("data", (text: string) => {
      received += text;
      for (let next = firstCommand(received); next !== undefined; next = firstCommand(received)) {
        received = received.slice(next.length);
        socket.write(replies[next.name]?.(port) ?? "+OK\r\n");
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** The first of some commands, if it is there as a whole: `*<parts>\r\n`, and each part `$<bytes>\r\n<bytes>\r\n`. */
function firstCommand(text: string): { name: string; length: number } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return undefined;
  let length = head[0].length;
  let name = "";
  for (let left = Number(head[1]); left > 0; left -= 1) {
    const part = /^\$(\d+)\r\n/.exec(text.slice(length));
    if (part === null) return undefined;
    const start = length + part[0].length;
    length = start + Number(part[1]) + "\r\n".length;
    if (length > text.length) return undefined;
    name ||= text.slice(start, length - 2).toUpperCase();
  }
  return { name, length };
}
