/** What the functions of a cluster find in their environment, and who gets a secret. */
import { expect, test } from "vitest";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { loadFunctions } from "../../shared/node/functions.ts";
import { configFor } from "../../shared/node/services.ts";
import { containerOf, type Service, serviceFolders, servicesIn, servicesOf } from "./knative-services.ts";
import { describeRendered, type Manifest, ofKind, render, renderOnTop } from "./render.ts";

interface Data {
  readonly data: Readonly<Record<string, string>>;
}

/** The Secrets that a cluster holds, which are in no manifest. */
const secretsOf = async (): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> => {
  const { LATCHKEY_JWT_PRIVATE_KEY = "", ...keys } = await makeSecrets("2026");
  return {
    "latchkey-redis": { REDIS_PASSWORD: "p", REDIS_SENTINEL_PASSWORD: "s" },
    "latchkey-keys": keys,
    "latchkey-jwt": { LATCHKEY_JWT_PRIVATE_KEY },
  };
};

/** As the kubelet makes it. @param data by the names of ConfigMaps and Secrets */
function environmentOf(service: Manifest<Service>, data: Readonly<Record<string, Data["data"] | undefined>>) {
  const { envFrom, env = [] } = containerOf(service);
  const found = (name: string) => {
    if (data[name] === undefined) throw new Error(`${service.metadata.name}: there is no ${name}`);
    return data[name];
  };
  const sources = envFrom.flatMap((source) => Object.values(source)).map(({ name }) => found(name));
  const own = env.flatMap(({ name, value, valueFrom = {} }) =>
    value === undefined
      ? Object.values(valueFrom).map((from) => [name, found(from.name)[from.key]])
      : [[name, value]],
  );
  return Object.assign({}, ...sources, Object.fromEntries(own)) as Record<string, string>;
}

for (const folder of serviceFolders) {
  describeRendered(`the environment of every function in ${folder}`, () => {
    const services = servicesIn(folder);
    const configMaps = ofKind<Data>(render(folder), "v1", "ConfigMap").map(({ metadata, data }) => [
      metadata.name,
      data,
    ]);
    const environments = secretsOf().then((secrets) => {
      // In the folder alone there is no ConfigMap yet.
      const everything = {
        "latchkey-config": { REDIS_URL: "redis://redis:6379" },
        // Made by hand, as the component redis-tls tells.
        "redis-ca": { REDIS_TLS_CA: "-----BEGIN CERTIFICATE-----\n" },
        ...secrets,
        ...Object.fromEntries(configMaps),
      };
      return new Map(services.map((one) => [one.metadata.name, environmentOf(one, everything)]));
    });
    const holders = async (variable: string) =>
      [...(await environments)]
        .filter(([, env]) => variable in env)
        .map(([name]) => name)
        .sort();

    test("is one that it starts with", async () => {
      expect.assertions(services.length);
      for (const [id, env] of await environments) {
        const functions = (await loadFunctions(id)) ?? [];
        expect(() => configFor(functions, env), id).not.toThrow();
      }
    });

    test("has the key that signs tokens where they are issued, and nowhere else", async () => {
      expect(await holders("LATCHKEY_JWT_PRIVATE_KEY")).toEqual(["token-issue"]);
    });

    test("has the address of Loki where entries are written to it or read from it, and nowhere else", async () => {
      expect(await holders("LOKI_URL")).toEqual(["audit-list", "audit-ship", "audit-verify"]);
    });

    test("is Knative's own business as to PORT, K_SERVICE, K_CONFIGURATION and K_REVISION, which it refuses", async () => {
      for (const name of ["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"])
        expect(await holders(name)).toEqual([]);
    });
  });
}

describeRendered("a kustomization on top", () => {
  const objects = renderOnTop({
    resources: ["knative"],
    configMapGenerator: [
      { name: "latchkey-config", namespace: "latchkey", literals: ["REDIS_URL=redis://redis"] },
      {
        name: "latchkey-loki",
        namespace: "latchkey",
        behavior: "merge",
        literals: ["LOKI_URL=http://other"],
      },
    ],
    images: [{ name: "latchkey", newName: "registry.example/latchkey", newTag: "1.2.3" }],
  });
  const services = servicesOf(objects);

  test("names the image of all functions in one line", () => {
    expect(new Set(services.map((one) => containerOf(one).image))).toEqual(
      new Set(["registry.example/latchkey:1.2.3"]),
    );
  });

  test("makes new revisions with a new configuration: Services name ConfigMaps by their hash", () => {
    const named = services.flatMap((one) => [
      ...containerOf(one).envFrom.flatMap(({ configMapRef }) => configMapRef?.name ?? []),
      ...(containerOf(one).env ?? []).flatMap(({ valueFrom }) => valueFrom?.["configMapKeyRef"]?.name ?? []),
    ]);
    const configMaps = ofKind(objects, "v1", "ConfigMap").map(({ metadata }) => metadata.name);
    expect([...new Set(named)].sort()).toEqual(configMaps.sort());
    expect(configMaps).toEqual([
      expect.stringMatching(/^latchkey-config-[a-z0-9]{10}$/),
      expect.stringMatching(/^latchkey-loki-[a-z0-9]{10}$/),
    ]);
  });
});
