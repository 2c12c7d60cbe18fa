/** What a master does before its pod ends (preStop): k8s/redis/stop-redis.sh, with a real replica and a real Sentinel. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onPath } from "../shared/node/dev/on-path.ts";
import { cleanUp, repository, run, until } from "./support/process.ts";
import { confirmWrites, type Server, startSentinel, startServer } from "./support/redis-servers.ts";

const NAME = "latchkey";
const admin = () => ["--user", "admin", "on", "nopass", "~*", "&*", "+@all"];

let master: Server;
let replica: Server;
let sentinel: Server;

/** The kubelet's preStop. */
const stop = () =>
  run("sh", [join(repository, "k8s/redis/stop-redis.sh")], {
    env: {
      ...{ SELF: master.address, ADMIN_PASSWORD: "any", REDIS_MASTER_NAME: NAME },
      ...{ REDIS_NODES: `${master.address},${replica.address}`, REDIS_SENTINELS: sentinel.address },
    },
  });

/** The Sentinel looks every second, and 0 says that this replica must not be promoted. */
async function allow(priority: 0 | 100): Promise<void> {
  await replica.admin.config("SET", "replica-priority", String(priority));
}
const isSeenWith = async (priority: number): Promise<boolean> => {
  const [seen] = (await sentinel.admin.call("SENTINEL", "REPLICAS", NAME)) as string[][];
  return seen?.[seen.indexOf("slave-priority") + 1] === String(priority);
};

/** What the script needs of the image, and a Mac may not have. */
const isLacking = !onPath("timeout");

describe("a master that is to stop", () => {
  if (isLacking) {
    test.skip("not here: timeout cannot be found", () => undefined);
    return;
  }
  beforeAll(async () => {
    master = await startServer(admin);
    replica = await startServer(() => [...admin(), "--replicaof", master.host, String(master.port)]);
    await until("the replica to follow", () => confirmWrites(master.admin, 1));
    sentinel = await startSentinel(master, NAME, admin);
    await sentinel.admin.call("SENTINEL", "DEBUG", "INFO-PERIOD", "1000", "PING-PERIOD", "250");
  });
  afterAll(async () => {
    for (const server of [master, replica, sentinel]) server?.admin.disconnect();
    await cleanUp();
  });

  test("waits for a replica that the Sentinels may promote, takes writes meanwhile, and hands over", async () => {
    await allow(0);
    await until("the Sentinel to see nobody to promote", () => isSeenWith(0));
    const commands = await master.admin.monitor();
    const looked = new Promise((resolve) => {
      commands.on("monitor", (_, [command]: string[]) => {
        if (command?.toUpperCase() === "INFO") resolve(undefined);
      });
    });
    const stopping = stop();
    await looked;
    commands.disconnect();
    expect(await master.admin.set("written", "meanwhile")).toBe("OK");
    await allow(100);
    const { code, stderr } = await stopping.ended();
    expect([code, stderr]).toEqual([0, expect.stringContaining(`handed over to ${replica.address}`)]);
    expect(await replica.admin.role()).toContain("master");
    expect(await replica.admin.get("written")).toBe("meanwhile");
  });

  test("that nobody follows waits for nobody", async () => {
    [master, replica] = [replica, master];
    await until("the other to follow", () => confirmWrites(master.admin, 1));
    replica.signal("SIGKILL");
    await until("it to be gone", async () =>
      /connected_slaves:0/.test(await master.admin.info("replication")),
    );
    const { code, stderr } = await stop().ended();
    expect([code, stderr]).toEqual([0, expect.not.stringContaining("handed over")]);
  });
});
