/**
 * Pods on one machine: network namespaces behind bridges, with addresses and names of their own. All of it is in mount,
 * network and process namespaces of this program, so nothing of it can be seen from outside or outlive it.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Namespaces; a user namespace as well where we are not root, because root may do all of this in it. */
const UNSHARE = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
const unshareArguments = () => [...UNSHARE, ...(process.getuid?.() === 0 ? [] : ["--map-root-user"])];

/** Why this machine cannot make such a world; undefined when it can. */
export function whyNoWorld(): string | undefined {
  for (const tool of ["unshare", "nsenter", "ip", "redis-server"]) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0) return `${tool} is not installed`;
  }
  const tried = spawnSync("unshare", [
    ...unshareArguments(),
    "ip",
    "link",
    "add",
    "bridge0",
    "type",
    "bridge",
  ]);
  return tried.status === 0 ? undefined : "network namespaces are not allowed";
}

/** Run a program of this repository inside. @returns its exit code */
export function runInWorld(program: string, args: readonly string[]): Promise<number | null> {
  return new Promise((resolve) => {
    const world = spawn("unshare", [...unshareArguments(), process.execPath, program, ...args], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    // By Ctrl-C it would not: neither unshare nor the first process of a namespace heeds it.
    const end = () => world.kill("SIGKILL");
    process.once("exit", end);
    world.once("close", (code) => {
      process.off("exit", end);
      resolve(code);
    });
  });
}

/** Networks: what pods say to each other, which can be cut, and what the tests say to them, which cannot. */
const networks = { pods: "10.77.0", tests: "10.78.0" } as const;
/** Bytes of the file of names, which is always overwritten as a whole so that nobody ever reads half of it. */
const HOSTS_BYTES = 4096;

export type World = ReturnType<typeof createWorld>;
export type Pod = ReturnType<World["addPod"]>;

export function createWorld(folder: string) {
  const ip = (...commands: string[]) =>
    execFileSync("ip", ["-batch", "-"], {
      input: `${commands.join("\n")}\n`,
      stdio: ["pipe", "ignore", "inherit"],
    });
  const mount = (...args: string[]) => execFileSync("mount", args);

  mount("-t", "tmpfs", "tmpfs", "/run");
  mkdirSync("/run/netns");
  const hosts = join(folder, "hosts");
  writeFileSync(hosts, "".padEnd(HOSTS_BYTES, "\n"));
  writeFileSync(join(folder, "resolv.conf"), "");
  mount("--bind", hosts, "/etc/hosts");
  mount("--bind", join(folder, "resolv.conf"), "/etc/resolv.conf");
  ip(
    "link set lo up",
    ...["mainland", "island", "tests"].flatMap((bridge) => [
      `link add ${bridge} type bridge`,
      `link set ${bridge} up`,
    ]),
    `address add ${networks.tests}.1/24 dev tests`,
  );

  const names = new Map<string, string>();
  let lastAddress = 10;
  function publishNames() {
    const lines = [...names].map(([name, address]) => `${address} ${name}\n`);
    const file = openSync(hosts, "r+");
    writeSync(file, `127.0.0.1 localhost\n${lines.join("")}`.padEnd(HOSTS_BYTES, "\n"), 0);
    closeSync(file);
  }

  function addPod(name: string, host: string) {
    lastAddress += 1;
    const address = `${networks.tests}.${lastAddress}`;
    ip(
      `netns add ${name}`,
      `link add ${name} type veth peer name eth0 netns ${name}`,
      `link add t-${name} type veth peer name eth1 netns ${name}`,
      `link set ${name} master mainland up`,
      `link set t-${name} master tests up`,
    );
    const inside = (...commands: string[]) =>
      execFileSync("ip", ["-n", name, "-batch", "-"], { input: `${commands.join("\n")}\n` });
    inside("link set lo up", "link set eth0 up", "link set eth1 up", `address add ${address}/24 dev eth1`);
    let current: ChildProcess | undefined;
    return {
      name,
      host,
      /** Where the tests reach it, whatever happens to the pods' own network. */
      address,
      /** As a new pod: another address under the same name. */
      appear() {
        lastAddress += 1;
        inside("address flush dev eth0", `address add ${networks.pods}.${lastAddress}/24 dev eth0`);
        names.set(host, `${networks.pods}.${lastAddress}`);
        publishNames();
      },
      /** As a pod that is gone: its name cannot be resolved, and nothing answers at its address, not even with a refusal. */
      disappear() {
        names.delete(host);
        publishNames();
        inside("address flush dev eth0");
      },
      cutOff: () => ip(`link set ${name} master island`),
      reconnect: () => ip(`link set ${name} master mainland`),
      /** Start its container: one process, which `signal` reaches. */
      start(command: string, args: readonly string[], env: Record<string, string>) {
        const log = openSync(join(folder, `${name}.log`), "a");
        current = spawn("nsenter", [`--net=/run/netns/${name}`, command, ...args], {
          cwd: folder,
          env: { PATH: process.env["PATH"] ?? "", ...env },
          stdio: ["ignore", log, log],
        });
        closeSync(log);
      },
      /** Run a command beside it, as `kubectl exec` does, and as the kubelet runs probes. */
      run: (command: string, args: readonly string[], env: Record<string, string>): Promise<boolean> =>
        new Promise((resolve) => {
          const log = openSync(join(folder, `${name}.log`), "a");
          spawn("nsenter", [`--net=/run/netns/${name}`, command, ...args], {
            env: { PATH: process.env["PATH"] ?? "", ...env },
            stdio: ["ignore", log, log],
          }).once("close", (code) => resolve(code === 0));
          closeSync(log);
        }),
      signal: (signal: NodeJS.Signals) => void current?.kill(signal),
      isRunning: () => current !== undefined && current.exitCode === null && current.signalCode === null,
      /** Wait until its process has ended. */
      ended: () =>
        new Promise<void>((resolve) => {
          if (current === undefined || current.exitCode !== null || current.signalCode !== null) resolve();
          else current.once("exit", () => resolve());
        }),
    };
  }
  return { addPod, folder };
}
