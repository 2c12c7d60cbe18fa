/**
 * The API as it is deployed: nginx with the generated configuration, and behind it one process per function. In between
 * stands what does Knative's part: it finds a function by the host that is asked for, and starts it with its first request.
 */
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { nginxBinary } from "./nginx-binary.ts";
import { type Program, repository, run, runScript, temporaryFolder, until } from "./process.ts";

const EVENT = /^\/events\/([a-z-]+)$/;
const HOST = /^([a-z-]+)\.latchkey\.svc\.cluster\.local$/;

/** One process per function, each started by its first request. @param env of all of them */
export function startFunctions(env: (id: string) => Record<string, string>) {
  const started = new Map<string, Promise<{ program: Program; port: number }>>();

  async function start(id: string) {
    const program = runScript("shared/node/main.ts", { args: [id], env: { PORT: "0", ...env(id) } });
    const [, port] = await program.says(/"port":(\d+)/);
    return { program, port: Number(port) };
  }
  function serving(id: string) {
    const running = started.get(id) ?? start(id);
    started.set(id, running);
    return running;
  }

  return {
    serving,
    /** kill -9; the next request starts it again. @returns the process's id */
    async kill(id: string): Promise<number> {
      const { program } = await serving(id);
      started.delete(id);
      program.kill("SIGKILL");
      await program.ended();
      return program.pid;
    },
    async stop(): Promise<void> {
      const programs = await Promise.all([...started.values()]);
      for (const { program } of programs) program.kill("SIGKILL");
      await Promise.all(programs.map(({ program }) => program.ended()));
    },
  };
}

type Functions = ReturnType<typeof startFunctions>;

/** What kourier-internal and a pod's queue-proxy do. */
export async function startHostRouter({ serving }: Functions) {
  async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    // Triggers and PingSources call by address; here they are known by their paths.
    const id = HOST.exec(incoming.headers.host ?? "")?.[1] ?? EVENT.exec(incoming.url ?? "")?.[1];
    if (id === undefined) return void outgoing.writeHead(404).end();
    const { port } = await serving(id);
    const forwarded = [incoming.headers["x-forwarded-for"] ?? [], incoming.socket.remoteAddress]
      .flat()
      .join(", ");
    const headers = { ...incoming.headers, "x-forwarded-for": forwarded };
    const { method, url: path } = incoming;
    const inner = request({ host: "127.0.0.1", port, method, path, headers });
    const fail = () => (outgoing.headersSent ? outgoing.destroy() : outgoing.writeHead(502).end());
    inner.on("error", fail);
    inner.once("response", (answer) => {
      // With the answer the function has said all: what is left of the request goes nowhere.
      inner.off("error", fail).on("error", () => undefined);
      outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(outgoing);
      incoming.unpipe(inner).resume();
    });
    incoming.pipe(inner);
  }
  const server = createServer((incoming, outgoing) => {
    pass(incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

/** nginx with the generated configuration, of which only addresses are changed. @param upstream a port */
export async function startNginx(upstream: number) {
  const binary = nginxBinary();
  if (binary === undefined) throw new Error("nginx is not installed");
  const folder = temporaryFolder();
  const port = await freePort();
  const file = join(folder, "nginx.conf");
  const accessLog = join(folder, "access.log");
  const generated = readFileSync(join(repository, "k8s/components/nginx-gateway/nginx.conf"), "utf8");
  const replaced = [
    ["server kourier-internal.kourier-system.svc.cluster.local:80 ", `server 127.0.0.1:${upstream} `],
    ["listen 8080 ", `listen 127.0.0.1:${port} `],
    // Our standard output is a socket, which nobody can open.
    ["access_log /dev/stdout ", `access_log ${accessLog} `],
  ] as const;
  const configuration = replaced.reduce((text, [from, to]) => {
    if (text.split(from).length !== 2) throw new Error(`nginx.conf does not say "${from}" once`);
    return text.replace(from, to);
  }, generated);
  writeFileSync(file, configuration);
  mkdirSync(join(folder, "run"));
  // As root its workers would be somebody else, who may not write here.
  const asRoot = process.getuid?.() === 0 ? "user root; " : "";
  const args = ["-p", `${join(folder, "run")}/`, "-c", file, "-e", "stderr", "-g", `${asRoot}daemon off;`];
  const program = run(binary, args, { cwd: folder });
  await until("nginx to listen", async () => {
    if (!program.isRunning()) throw new Error((await program.ended()).stderr);
    return canConnect(port);
  });
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    accessLog: () => readFileSync(accessLog, "utf8"),
    async stop() {
      program.kill("SIGTERM");
      await program.ended();
    },
  };
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).once("error", () => resolve(false));
    socket.once("close", () => socket.destroy()).once("connect", () => socket.end());
  });
}

/** All of it. @param env of the functions; the private key is for token-issue alone */
export async function startGateway({ LATCHKEY_JWT_PRIVATE_KEY = "", ...env }: Record<string, string>) {
  const functions = startFunctions((id) => ({
    // nginx, and the queue-proxy's part of the router.
    LATCHKEY_TRUSTED_PROXIES: "2",
    // All tests come from one address.
    LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS: "100000",
    ...env,
    ...(id === "token-issue" ? { LATCHKEY_JWT_PRIVATE_KEY } : {}),
  }));
  const router = await startHostRouter(functions);
  const nginx = await startNginx(router.port);
  return {
    ...nginx,
    async stop() {
      await nginx.stop();
      await router.stop();
      await functions.stop();
    },
  };
}
