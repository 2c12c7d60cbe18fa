/** A Sentinel that still names the master of old, whatever happens: `node stale-sentinel.ts <host> <port of the master>`. */
import { createServer } from "node:net";

const [host = "", port = ""] = process.argv.slice(2);
const LISTEN = 26_379;

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const list = (...items: string[]) => `*${items.length}\r\n${items.join("")}`;

function answer(command: readonly string[]): string {
  const [first = "", second = ""] = command.map((word) => word.toLowerCase());
  if (first === "info") return bulk("redis_mode:sentinel\r\nloading:0\r\n");
  if (first === "subscribe") return list(bulk("subscribe"), bulk(second), ":1\r\n");
  if (first !== "sentinel") return "+OK\r\n";
  if (second === "get-master-addr-by-name") return list(bulk(host), bulk(port));
  return list();
}

createServer((socket) => {
  socket.on("error", () => undefined);
  let waiting = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    waiting += text;
    for (;;) {
      const [, count = ""] = /^\*(\d+)\r\n/.exec(waiting) ?? [];
      const command = new RegExp(`^\\*\\d+\\r\\n((?:\\$\\d+\\r\\n[^\\r]*\\r\\n){${count || 1}})`).exec(
        waiting,
      );
      if (command === null) return;
      waiting = waiting.slice(command[0].length);
      socket.write(answer((command[1] ?? "").split("\r\n").filter((_, index) => index % 2 === 1)));
    }
  });
}).listen(LISTEN);
