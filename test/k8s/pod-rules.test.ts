/** What every pod of every overlay keeps to: the strictest profile of Kubernetes, named images, bounds, probes, no secrets. */
import { expect, test } from "vitest";
import { imagesOf, variants } from "./overlays.ts";
import { containersOf, podsOf } from "./pods.ts";
import { describeRendered, ofKind } from "./render.ts";

for (const [name, variant] of Object.entries(variants)) {
  describeRendered(`every pod of ${name}`, () => {
    const objects = variant.render();
    const pods = podsOf(objects);

    test("every image stands in the list of the overlay, or of the component that brings it, with a tag that is not `latest`", () => {
      const images = variant.folders.flatMap(imagesOf);
      const known = images.map(({ newName, newTag }) => `${newName}:${newTag}`);
      const used = new Set(pods.flatMap((pod) => containersOf(pod).map(({ image }) => image)));
      expect([...used].sort()).toEqual(known.sort());
      for (const { newName, newTag } of images) {
        expect(newTag).toMatch(/^v?\d+\.\d+\.\d+/);
        // A name without a registry is a different image in every cluster.
        expect(newName).toMatch(/^[\w.-]+\.[\w.-]+\//);
      }
    });

    test("no secret is in it", () => {
      expect(ofKind(objects, "v1", "Secret")).toEqual([]);
      const literal = pods.flatMap((pod) =>
        containersOf(pod).flatMap(({ env = [] }) =>
          env.filter(
            ({ name: variable, value }) =>
              value !== undefined && /PASSWORD|SECRET|PEPPER|PRIVATE|TOKEN/.test(variable),
          ),
        ),
      );
      expect(literal).toEqual([]);
      const text = JSON.stringify(objects);
      expect(text).not.toMatch(/PRIVATE KEY|lk_(live|test)_\w{10}|[^$]\bpassword: *\w/);
    });

    test("every pod keeps the profile `restricted`, with a root file system that nobody can write to", () => {
      for (const pod of pods) {
        const { securityContext = {}, ...spec } = pod.spec;
        expect([pod.of, Object.keys(spec).filter((key) => /^host/.test(key))]).toEqual([pod.of, []]);
        const kinds = (spec.volumes ?? []).flatMap(({ name: _, ...source }) => Object.keys(source));
        expect(kinds.filter((kind) => !/^(configMap|secret|projected|emptyDir)$/.test(kind))).toEqual([]);
        for (const { securityContext: own = {} } of containersOf(pod)) {
          expect([pod.of, { ...securityContext, ...own }]).toEqual([
            pod.of,
            expect.objectContaining({
              runAsNonRoot: true,
              seccompProfile: { type: "RuntimeDefault" },
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ["ALL"] },
            }),
          ]);
          expect({ ...securityContext, ...own }).not.toMatchObject({ runAsUser: 0 });
        }
      }
    });

    test("no pod gets a token of the API server but Prometheus, and none the addresses of Services as variables", () => {
      for (const { of, name: pod, spec } of pods) {
        expect([of, spec.automountServiceAccountToken]).toEqual([of, pod === "prometheus"]);
        expect([of, spec.enableServiceLinks]).toEqual([of, false]);
      }
    });

    test("every container reserves CPU and memory, has a bound of memory and none of CPU", () => {
      for (const pod of pods) {
        for (const { resources } of containersOf(pod)) {
          expect([pod.of, resources]).toEqual([
            pod.of,
            {
              requests: {
                cpu: expect.stringMatching(/^\d+m?$/),
                memory: expect.stringMatching(/^\d+[MG]i$/),
              },
              limits: { memory: expect.stringMatching(/^\d+[MG]i$/) },
            },
          ]);
        }
      }
    });

    test("every container is asked whether it is alive and ready, on a port that it has", () => {
      for (const pod of pods.filter(({ name: one }) => one !== "admin")) {
        for (const { readinessProbe, livenessProbe, startupProbe } of pod.spec.containers) {
          expect([pod.of, readinessProbe, livenessProbe]).toEqual([
            pod.of,
            expect.anything(),
            expect.anything(),
          ]);
          for (const probe of [readinessProbe, livenessProbe, startupProbe]) {
            const port = probe?.httpGet?.port;
            if (typeof port === "string")
              expect([pod.of, Object.keys(pod.ports)]).toEqual([pod.of, expect.arrayContaining([port])]);
          }
        }
      }
    });
  });
}
