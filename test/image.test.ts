/** The image: built as `npm run image` does, and run as Kubernetes would: not as root, no capabilities, nothing writable. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundleNames } from "../shared/node/dev/bundles.ts";
import { freePort } from "../shared/node/dev/free-port.ts";
import { buildLocalImage, LIMITS, podman } from "../shared/node/dev/local-image.ts";
import { makeSecrets } from "../shared/node/dev/make-secrets.ts";
import {
  cleanUp,
  createProcessTenant,
  type OwnRedis,
  ownRedis,
  type ProcessTenant,
  run,
  send,
  temporaryFolder,
} from "./support/process.ts";

const IMAGE = "localhost/latchkey-test";
const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
/** Options with which the README runs an operator's command. */
const documented =
  /^docker run (.*) latchkey admin create-tenant acme$/m.exec(read("README.md"))?.[1]?.split(" ") ?? [];

test("both base images have a version, and the Dockerfile tells how to pin them by digest", () => {
  const dockerfile = read("Dockerfile");
  const bases = [...dockerfile.matchAll(/^ARG \w+_IMAGE=(.+)$/gm)].map(([, image]) => image);
  expect(bases).toEqual([
    expect.stringMatching(/\/node:24-\w+/),
    expect.stringMatching(/\/cc-debian12:(?!latest)\w+/),
  ]);
  expect(dockerfile).toMatch(/^# .*@sha256:/m);
  expect(dockerfile.match(/^FROM (?!\$\{(NODE|RUNTIME)_IMAGE\}).*$/gm)).toBeNull();
});

// Half a minute of two cores, and tools that few machines have: a script of its own.
const isWanted = process.env["TEST_IMAGE"] !== undefined;

describe.skipIf(!isWanted)("the image (npm run test:image; needs Linux, podman and runc)", () => {
  let redis: OwnRedis;
  let envFile: string;
  let tenant: ProcessTenant;

  beforeAll(async () => {
    buildLocalImage(IMAGE);
    const port = await freePort();
    redis = await ownRedis(["--appendonly", "no", "--bind", "127.0.0.1", "--port", String(port)]);
    const secrets = await makeSecrets("image");
    tenant = await createProcessTenant(redis.redis, secrets, "image");
    const variables = { ...secrets, PORT: "0", REDIS_URL: `redis://127.0.0.1:${port}` };
    envFile = join(temporaryFolder(), "latchkey.env");
    const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(envFile, lines.join(""));
  }, 300_000);
  afterAll(async () => {
    redis?.redis.disconnect();
    await cleanUp();
    for (const name of [IMAGE, `${IMAGE}-base-node`, `${IMAGE}-base-runtime`]) podman("rmi", "--force", name);
  });

  /** Run the image as the README does, with other arguments. */
  function start(...args: string[]) {
    // Our own redis-server is on this machine's loopback. Of its own accord podman would leave /tmp writable.
    const local = ["--runtime", "runc", "run", ...LIMITS, "--network", "host", "--read-only-tmpfs=false"];
    const options = documented.map((one) => one.replace("latchkey.env", envFile));
    return run("podman", [...local, ...options, IMAGE, ...args], {});
  }

  const serving = async (name: string) => {
    const program = start(name);
    const [, port] = await program.says(/"port":(\d+)/);
    return { program, origin: `http://127.0.0.1:${port}` };
  };

  test("a function answers an authenticated request, and as process 1 ends on SIGTERM", async () => {
    const { program, origin } = await serving("users-me");
    const { status, body } = await send(origin, "GET", "/users/me", { as: tenant.token });
    expect([status, body.username]).toEqual([200, tenant.username]);
    expect((await send(origin, "GET", "/users/me")).status).toBe(401);
    program.kill("SIGTERM");
    const { code, stdout } = await program.ended();
    expect([code, stdout]).toEqual([0, expect.stringContaining('"signal":"SIGTERM","msg":"stopping"')]);
  });

  test("operators' commands run in it", async () => {
    const { code, stdout } = await start("admin", "create-tenant", "acme").ended();
    expect([code, stdout]).toEqual([0, "Created the tenant acme\n"]);
  });

  test("it is a user without a name or rights, with nothing to write to and no shell", async () => {
    const probe = `
      const { accessSync, constants, existsSync, readFileSync, readdirSync } = require("node:fs");
      const status = readFileSync("/proc/self/status", "utf8");
      let writable = true;
      try { accessSync("/app", constants.W_OK) } catch { writable = false }
      console.log(JSON.stringify({
        uid: process.getuid(), gid: process.getgid(), pid: process.pid, writable,
        capabilities: [...status.matchAll(/^Cap(?:Prm|Eff|Bnd|Amb):\\s+(\\w+)/gm)].map(([, bits]) => Number(bits)),
        shells: ["/bin/sh", "/bin/bash", "/usr/bin/sh", "/busybox"].filter(existsSync),
        files: readdirSync("/app").filter((name) => !name.endsWith(".js")).sort(),
      }))`;
    const { stdout, stderr } = await start("-e", probe).ended();
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({
      ...{ uid: 65532, gid: 65532, pid: 1, writable: false, capabilities: [0, 0, 0, 0], shells: [] },
      files: [
        "LICENSE",
        "THIRD-PARTY-LICENSES.txt",
        "bundles",
        "node_modules",
        "package.json",
        "sbom.cdx.json",
      ],
    });
  });

  test("V8 takes the compiled code that the build has stored of each bundle", async () => {
    const probe = `
      const { readdirSync, readFileSync } = require("node:fs");
      const { Script } = require("node:vm");
      const rejected = (file) =>
        new Script(readFileSync(file, "utf8"), { cachedData: readFileSync(file + ".cache") }).cachedDataRejected;
      const files = readdirSync("bundles").filter((file) => file.endsWith(".js"));
      console.log(JSON.stringify(files.map((file) => [file, rejected("bundles/" + file)])));`;
    const { stdout } = await start("-e", probe).ended();
    expect(JSON.parse(stdout)).toEqual(bundleNames.map((name) => [`${name}.js`, false]).sort());
  });

  test("its labels say what it is", () => {
    const [image] = JSON.parse(podman("inspect", IMAGE));
    const { Labels: labels, User: user, Entrypoint: entrypoint } = image.Config;
    expect([user, entrypoint]).toEqual(["65532:65532", ["/usr/local/bin/node"]]);
    expect(labels).toMatchObject({
      "org.opencontainers.image.title": "latchkey",
      "org.opencontainers.image.licenses": "Apache-2.0",
    });
  });
});
