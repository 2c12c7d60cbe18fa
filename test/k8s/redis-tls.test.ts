/** The component redis-tls: what its first lines tell an operator to make fits what is deployed. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseConfig } from "../../shared/config.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { renderWith } from "./overlays.ts";
import { containersOf, podsOf } from "./pods.ts";
import { describeRendered, type Manifest, ofKind, render } from "./render.ts";

const component = new URL("../../k8s/components/redis-tls/kustomization.yaml", import.meta.url);
const OVERLAY = "k8s/overlays/prod";

/** The certificate that the commands in the component's first lines make, without those that need a cluster. */
function madeByHand(): string {
  const commands = readFileSync(component, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("#   ") && !line.includes("kubectl"))
    .map((line) => line.slice(4));
  const folder = mkdtempSync(join(tmpdir(), "latchkey-tls-"));
  try {
    execFileSync("sh", ["-ec", commands.join("\n")], { cwd: folder, stdio: "pipe" });
    return readFileSync(join(folder, "tls.crt"), "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const configOf = (objects: readonly Manifest[]): Record<string, string> =>
  ofKind<{ data: Record<string, string> }>(objects, "v1", "ConfigMap").find(({ metadata }) =>
    metadata.name.startsWith("latchkey-config-"),
  )?.data ?? {};

describeRendered("the component redis-tls", () => {
  const objects = render(OVERLAY);
  const config = configOf(objects);

  test("is told how to make a certificate that has every name by which functions call Redis and the Sentinels", () => {
    const certificate = new X509Certificate(madeByHand());
    const { REDIS_NODES = "", REDIS_SENTINELS = "", REDIS_SERVICE = "" } = config;
    const { REDIS_CLUSTER_NODES = "" } = configOf(renderWith(OVERLAY, "redis-cluster"));
    const hosts = [REDIS_NODES, REDIS_SENTINELS, REDIS_SERVICE, REDIS_CLUSTER_NODES].join().split(",");
    expect(hosts).toHaveLength(13);
    const unknown = hosts.filter(
      (address) => certificate.checkHost(address.split(":")[0] ?? "") === undefined,
    );
    expect(unknown).toEqual([]);
    expect(certificate.ca).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
  });

  test("makes functions speak TLS and trust that certificate", async () => {
    const REDIS_TLS_CA = madeByHand();
    const parsed = parseConfig({ ...config, ...(await makeSecrets("k2026")), REDIS_TLS_CA });
    expect(parsed).toMatchObject({ REDIS_TLS: true, REDIS_TLS_CA });
  });

  test("gives the key to the pods of Redis and the Sentinels alone, where their scripts look for it", () => {
    const holders = podsOf(objects).filter(({ spec }) => JSON.stringify(spec).includes('"redis-tls"'));
    expect(holders.map(({ name }) => name).sort()).toEqual(["redis", "sentinel"]);
    for (const pod of holders) {
      const [{ env = [], volumeMounts = [] } = {}] = containersOf(pod);
      const variable = (wanted: string) => env.find(({ name }) => name === wanted)?.value;
      expect(variable("REDIS_TLS")).toBe("true");
      expect(volumeMounts).toContainEqual({ name: "tls", mountPath: variable("TLS_FILES"), readOnly: true });
    }
    const script = readFileSync(new URL("../../k8s/redis/lib.sh", import.meta.url), "utf8");
    const files = [...script.matchAll(/\$TLS_FILES\/([\w.]+)/g)].map(([, file]) => file);
    expect(new Set(files)).toEqual(new Set(["tls.crt", "tls.key", "ca.crt"]));
  });

  test("added to an overlay that has it already makes no pod that the API server refuses", () => {
    const again = podsOf(renderWith(OVERLAY, "redis-tls"));
    const doubled = again.flatMap((pod) =>
      [
        (pod.spec.volumes ?? []).map(({ name }) => name),
        ...containersOf(pod).map(({ env = [] }) => env.map(({ name }) => name)),
        ...containersOf(pod).map(({ volumeMounts = [] }) => volumeMounts.map(({ mountPath }) => mountPath)),
      ]
        .filter((names) => new Set(names).size < names.length)
        .map((names) => `${pod.of}: ${names}`),
    );
    expect(doubled).toEqual([]);
  });
});
