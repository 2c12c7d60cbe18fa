/** Knative's rules for its Services, by name: its webhooks check them, and a JSON schema does not. */
import { expect, test } from "vitest";
import { environment } from "../../shared/config.ts";
import { functionIds } from "../../shared/node/functions.ts";
import { ARGON2 } from "../../shared/node/passwords.ts";
import { eventRoutes, routes } from "../../shared/routes.ts";
import { containerOf, podOf, type Service, serviceFolders, servicesIn } from "./knative-services.ts";
import { describeRendered, type Manifest } from "./render.ts";

const AUTOSCALING = "autoscaling.knative.dev/";

/** What Knative 1.23 takes in a pod without a feature flag (PodSpecMask, RevisionSpec), and in a container (ContainerMask). */
const POD_FIELDS = [
  "automountServiceAccountToken",
  "containerConcurrency",
  "containers",
  "enableServiceLinks",
  "idleTimeoutSeconds",
  "imagePullSecrets",
  "responseStartTimeoutSeconds",
  "serviceAccountName",
  "timeoutSeconds",
  "volumes",
];
const CONTAINER_FIELDS = [
  "args",
  "command",
  "env",
  "envFrom",
  "image",
  "imagePullPolicy",
  "livenessProbe",
  "name",
  "ports",
  "readinessProbe",
  "resources",
  "securityContext",
  "startupProbe",
  "terminationMessagePath",
  "terminationMessagePolicy",
  "volumeMounts",
  "workingDir",
];
test("a function that stands in both route tables has the same scaling in both", () => {
  const both = routes.flatMap(({ id, scaling }) => {
    const other = eventRoutes.find((row) => row.id === id);
    return other === undefined ? [] : [{ id, scaling, other: other.scaling }];
  });
  expect(both.map(({ id }) => id)).toEqual(["audit-relay"]);
  for (const { scaling, other } of both) expect(scaling).toEqual(other);
});

for (const folder of serviceFolders) {
  describeRendered(`every Knative Service of ${folder}`, () => {
    const services = servicesIn(folder);
    const scaling = (service: Manifest<Service>, name: string): string | undefined =>
      service.spec.template.metadata.annotations?.[AUTOSCALING + name];
    /** Names of those of which something is not so. */
    const unless = (holds: (service: Manifest<Service>) => unknown): string[] =>
      services.filter((service) => !holds(service)).map(({ metadata }) => metadata.name);

    test("stands for one function, and every function has one", () => {
      expect(services.map(({ metadata }) => metadata.name).sort()).toEqual([...functionIds].sort());
      expect(unless((one) => containerOf(one).args.join() === one.metadata.name)).toEqual([]);
    });

    test("has autoscaling annotations on its template only", () => {
      const own = (one: Manifest) => Object.keys(one.metadata.annotations ?? {});
      expect(unless((one) => !own(one).some((name) => name.startsWith(AUTOSCALING)))).toEqual([]);
    });

    test("has a max-scale, and an activation-scale from 2 to that", () => {
      expect(unless((one) => Number(scaling(one, "max-scale")) >= 2)).toEqual([]);
      expect(
        unless((one) => {
          const activation = Number(scaling(one, "activation-scale"));
          return activation >= 2 && activation <= Number(scaling(one, "max-scale"));
        }),
      ).toEqual([]);
    });

    test("leaves the activator once it has pods: target-burst-capacity is 0", () => {
      expect(unless((one) => scaling(one, "target-burst-capacity") === "0")).toEqual([]);
    });

    test("keeps its last pod for minutes, longer than the time between two calls of a clock", () => {
      const seconds = (one: Manifest<Service>) =>
        Number(/^(\d+)s$/.exec(scaling(one, "scale-to-zero-pod-retention-period") ?? "")?.[1]);
      // Knative's own bound is one hour.
      expect(unless((one) => seconds(one) >= 120 && seconds(one) <= 3600)).toEqual([]);
    });

    test("asks for CPU and memory, and limits memory alone", () => {
      expect(unless((one) => /^\d+m$/.test(String(containerOf(one).resources.requests["cpu"])))).toEqual([]);
      expect(unless((one) => /^\d+Mi$/.test(String(containerOf(one).resources.requests["memory"])))).toEqual(
        [],
      );
      expect(unless((one) => Object.keys(containerOf(one).resources.limits).join() === "memory")).toEqual([]);
    });

    test("has room for the password hashes that token-issue makes at once", () => {
      const one = services.find(({ metadata }) => metadata.name === "token-issue") as Manifest<Service>;
      const [asked, most] = [containerOf(one).resources.requests, containerOf(one).resources.limits].map(
        ({ memory }) => Number.parseInt(String(memory), 10),
      ) as [number, number];
      const hashes =
        environment.shape.LATCHKEY_ARGON2_CONCURRENCY.parse(undefined) * (ARGON2.memoryCost / 1024);
      expect(most - asked).toBeGreaterThan(hashes);
    });

    test("gets no token of a ServiceAccount and no variables about other Services", () => {
      expect(unless((one) => podOf(one).automountServiceAccountToken === false)).toEqual([]);
      expect(unless((one) => podOf(one).enableServiceLinks === false)).toEqual([]);
    });

    test("mounts nothing: its configuration is environment", () => {
      expect(unless((one) => !("volumes" in podOf(one)) && !("volumeMounts" in containerOf(one)))).toEqual(
        [],
      );
    });

    test("is probed for readiness as Knative does it, without a period, and for liveness by the kubelet", () => {
      expect(services.map((one) => containerOf(one).readinessProbe)).toEqual(
        services.map(() => ({ httpGet: { path: "/health/readiness" } })),
      );
      expect(
        unless(
          (one) => JSON.stringify(containerOf(one).livenessProbe.httpGet) === '{"path":"/health/liveness"}',
        ),
      ).toEqual([]);
      expect(unless((one) => "periodSeconds" in containerOf(one).livenessProbe)).toEqual([]);
    });

    test("has one port, which is the default of PORT", () => {
      expect(services.map((one) => containerOf(one).ports)).toEqual(
        services.map(() => [{ containerPort: 8080 }]),
      );
    });

    test("takes no variable from the downward API, which is behind a feature flag", () => {
      const sources = (one: Manifest<Service>) =>
        (containerOf(one).env ?? []).flatMap(({ valueFrom = {} }) => Object.keys(valueFrom));
      expect(
        unless((one) => sources(one).every((source) => /^(secret|configMap)KeyRef$/.test(source))),
      ).toEqual([]);
    });

    test("uses no field that Knative refuses or hides behind a feature flag", () => {
      const only = (allowed: readonly string[], one: object) =>
        Object.keys(one).every((key) => allowed.includes(key));
      expect(unless((one) => only(POD_FIELDS, podOf(one)))).toEqual([]);
      expect(unless((one) => podOf(one).containers.length === 1)).toEqual([]);
      expect(unless((one) => only(CONTAINER_FIELDS, containerOf(one)))).toEqual([]);
    });

    test("runs as nobody, on a read-only root, without capabilities", () => {
      expect(services.map((one) => containerOf(one).securityContext)).toEqual(
        services.map(() => ({
          allowPrivilegeEscalation: false,
          capabilities: { drop: ["ALL"] },
          readOnlyRootFilesystem: true,
          runAsNonRoot: true,
          seccompProfile: { type: "RuntimeDefault" },
        })),
      );
    });

    test("is on no public route of Knative's own: cluster-local, by label", () => {
      expect(
        unless((one) => one.metadata.labels?.["networking.knative.dev/visibility"] === "cluster-local"),
      ).toEqual([]);
    });

    test("starts what the image starts, so that node is PID 1", () => {
      expect(unless((one) => !("command" in containerOf(one)))).toEqual([]);
    });

    test("ends within the grace period, which is its timeout: 30 s until SIGTERM, and the shutdown", () => {
      const HELD_BACK = 30;
      const shutdown = environment.shape.LATCHKEY_SHUTDOWN_SECONDS.parse(undefined);
      expect(unless((one) => podOf(one).timeoutSeconds >= HELD_BACK + shutdown)).toEqual([]);
      // max-revision-timeout-seconds of a cluster that was not configured.
      expect(unless((one) => podOf(one).timeoutSeconds <= 600)).toEqual([]);
    });

    test("takes a bounded number of requests, within Knative's own bound", () => {
      expect(
        unless((one) => podOf(one).containerConcurrency >= 1 && podOf(one).containerConcurrency <= 1000),
      ).toEqual([]);
    });

    test("audit-ship takes the most requests in the fewest pods of what is called, token-issue the fewest", () => {
      const concurrency = (id: string) =>
        podOf(services.find(({ metadata }) => metadata.name === id) as Manifest<Service>)
          .containerConcurrency;
      const publicOnes = routes.map(({ id }) => concurrency(id));
      expect(concurrency("audit-ship")).toBeGreaterThan(Math.max(...publicOnes));
      expect(concurrency("token-issue")).toBe(Math.min(...publicOnes));
    });
  });
}
