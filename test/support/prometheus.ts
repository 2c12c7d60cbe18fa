/**
 * A real Prometheus with the shipped configuration and rules, thirty times as fast: every duration in them is divided
 * by 30, so that a minute takes two seconds. Pods are listed in files with the labels that Kubernetes discovery would give
 * them, because Debian's Prometheus is built without it; relabelling starts from there.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { freePort } from "../../shared/node/dev/free-port.ts";
import { onPath } from "../../shared/node/dev/on-path.ts";
import { type Program, run, temporaryFolder, until } from "./process.ts";

export const hasPrometheus = onPath("prometheus") && onPath("promtool");

const shipped = new URL("../../k8s/prometheus/", import.meta.url);
const SPEED = 30;
/** Milliseconds of a minute. */
export const MINUTE = 60_000 / SPEED;
const MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** `1m` as `1000ms`; names such as `increase1m` stay. */
const faster = (text: string): string =>
  text.replaceAll(
    /\b(\d+)([smh])\b/g,
    (_, count, unit: keyof typeof MS) => `${(count * MS[unit]) / SPEED}ms`,
  );

/** A container's port of a pod, and where it can really be reached. */
export interface PodPort {
  readonly address: string;
  readonly port: string;
  readonly pod: string;
  readonly namespace?: string;
  readonly phase?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** As discovery with `role: pod` would list it (Prometheus's documentation of kubernetes_sd_config). */
function discovered({ address, port, pod, ...about }: PodPort) {
  const { namespace = "latchkey", phase = "Running", labels = {}, annotations = {} } = about;
  const meta: Record<string, string> = {
    __meta_kubernetes_namespace: namespace,
    __meta_kubernetes_pod_name: pod,
    __meta_kubernetes_pod_phase: phase,
    __meta_kubernetes_pod_container_port_name: port,
  };
  for (const [kind, pairs] of Object.entries({ label: labels, annotation: annotations })) {
    for (const [name, value] of Object.entries(pairs)) {
      const escaped = name.replaceAll(/\W/g, "_");
      meta[`__meta_kubernetes_pod_${kind}_${escaped}`] = value;
      meta[`__meta_kubernetes_pod_${kind}present_${escaped}`] = "true";
    }
  }
  return { targets: [address], labels: meta };
}

interface ScrapeConfig {
  readonly job_name: string;
  readonly kubernetes_sd_configs?: readonly {
    readonly role: string;
    readonly namespaces: { readonly names: string[] };
  }[];
  readonly static_configs?: readonly { readonly targets: readonly string[] }[];
}

/** @param hosts real addresses of what the configuration names */
function writeConfiguration(
  folder: string,
  pods: readonly PodPort[],
  hosts: Readonly<Record<string, string>>,
): void {
  const { scrape_configs, ...rest } = parse(faster(readFileSync(new URL("prometheus.yml", shipped), "utf8")));
  const jobs = (scrape_configs as ScrapeConfig[]).map(({ kubernetes_sd_configs, static_configs, ...job }) => {
    const seen = pods.filter(({ namespace = "latchkey" }) =>
      kubernetes_sd_configs?.some(
        ({ role, namespaces }) => role === "pod" && namespaces.names.includes(namespace),
      ),
    );
    const file = `${job.job_name}.json`;
    writeFileSync(join(folder, file), JSON.stringify(seen.map(discovered)));
    const targets = static_configs?.flatMap((one) => one.targets).map((name) => hosts[name] ?? name);
    return {
      ...job,
      ...(targets === undefined
        ? { file_sd_configs: [{ files: [file] }] }
        : { static_configs: [{ targets }] }),
    };
  });
  writeFileSync(join(folder, "prometheus.yml"), stringify({ ...rest, scrape_configs: jobs }));
  mkdirSync(join(folder, "rules"));
  for (const name of readdirSync(new URL("rules/", shipped))) {
    writeFileSync(
      join(folder, "rules", name),
      faster(readFileSync(new URL(`rules/${name}`, shipped), "utf8")),
    );
  }
}

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly number[];
}
interface Answer {
  readonly metric: Record<string, string>;
  readonly value?: [number, string];
  readonly values?: [number, string][];
}

export interface ActiveAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
export interface Target {
  readonly labels: Readonly<Record<string, string>>;
  readonly scrapeUrl: string;
  readonly health: "up" | "down" | "unknown";
}
interface Rule {
  readonly name: string;
  readonly query: string;
  readonly health: string;
  readonly lastError?: string;
}

export async function startPrometheus(
  pods: readonly PodPort[],
  hosts: Readonly<Record<string, string>> = {},
) {
  const folder = temporaryFolder();
  const address = `127.0.0.1:${await freePort()}`;
  const startedAt = Date.now();
  writeConfiguration(folder, pods, { "localhost:9090": address, ...hosts });
  const program: Program = run(
    "prometheus",
    [
      ...["--config.file=prometheus.yml", "--storage.tsdb.path=data", `--web.listen-address=${address}`],
      // By default targets that are discovered are taken up every five seconds.
      ...["--scrape.discovery-reload-interval=100ms", "--log.level=warn"],
    ],
    { cwd: folder },
  );

  async function api<T>(path: string, search: Record<string, string> = {}): Promise<T> {
    const response = await fetch(`http://${address}/api/v1/${path}?${new URLSearchParams(search)}`);
    const { status, data, error } = (await response.json()) as { status: string; data: T; error?: string };
    if (status !== "success") throw new Error(`${error} in ${JSON.stringify(search)}`);
    return data;
  }
  const series = ({ result }: { result: Answer[] }): Series[] =>
    result.map(({ metric, value, values = value === undefined ? [] : [value] }) => ({
      metric,
      values: values.map(([, text]) => Number(text)),
    }));

  await until("Prometheus to answer", async () => {
    if (!program.isRunning()) throw new Error((await program.ended()).stderr);
    return fetch(`http://${address}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  });
  return {
    address,
    now: async (query: string): Promise<Series[]> => series(await api("query", { query })),
    /** Since it was started, minute by minute, the current one included. */
    sinceStart: async (query: string): Promise<Series[]> =>
      series(
        await api("query_range", {
          ...{ query, step: String(MINUTE / 1000) },
          ...{ start: String(startedAt / 1000), end: String((Date.now() + MINUTE) / 1000) },
        }),
      ),
    labelValues: (label: string, match: string): Promise<string[]> =>
      api(`label/${label}/values`, { "match[]": match }),
    rules: async (): Promise<Rule[]> =>
      (await api<{ groups: { rules: Rule[] }[] }>("rules")).groups.flatMap(({ rules }) => rules),
    alerts: async (): Promise<ActiveAlert[]> => (await api<{ alerts: ActiveAlert[] }>("alerts")).alerts,
    targets: async (): Promise<Target[]> => (await api<{ activeTargets: Target[] }>("targets")).activeTargets,
  };
}
