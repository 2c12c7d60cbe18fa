/** The public routes: every request reaches its function through a Gateway, and nothing else is reached. */
import { expect, test } from "vitest";
import { createApp } from "../../shared/app.ts";
import type { Gate, Servable, Services } from "../../shared/function.ts";
import { httpRoutes } from "../../shared/node/dev/manifests/http-routes.ts";
import { loadFunctions } from "../../shared/node/functions.ts";
import { allowedMethods, eventRoutes, type Route, routes } from "../../shared/routes.ts";
import { type HttpRoute, routedTo } from "./gateway-api.ts";
import { overlays } from "./overlays.ts";
import { describeRendered, type Manifest, ofKind, render } from "./render.ts";

interface ReferenceGrant {
  readonly spec: Readonly<Record<"from" | "to", readonly Readonly<Record<string, string>>[]>>;
}

/** Segments that a `{parameter}` may be; each is one, whatever it holds. */
const SEGMENTS = [
  "x",
  "a%2Fb",
  "%2F",
  "%2E%2E%2Fmetrics",
  "integrity",
  "gr%C3%BC%C3%9Fe",
  "a.b;c=d@e:f",
  "%00",
  "~",
];
const METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PURGE"];

const concrete = (path: string): string[] =>
  path.includes("{") ? SEGMENTS.map((segment) => path.replaceAll(/\{\w+\}/g, () => segment)) : [path];

const functionAt = (host: string | undefined): string | undefined =>
  /^([a-z-]+)\.latchkey\.svc\.cluster\.local$/.exec(host ?? "")?.[1];

/** A pod's application without anything behind it: enough for what never gets to a function's own work. */
async function podOf(id: string) {
  const functions = (await loadFunctions(id)) as Servable[];
  const system = () => new Response("system", { status: 299 });
  const app = createApp(functions, {} as Services, {} as Gate, {
    system: {
      "/metrics": system,
      "/health": system,
      "/health/liveness": system,
      "/health/readiness": system,
    },
  });
  return (method: string, path: string) =>
    app.request(`http://latchkey.example${path}`, { method }, { incoming: { url: path } });
}
const pods = new Map(
  await Promise.all(routes.map(async ({ id }) => [id as string, await podOf(id)] as const)),
);
const send = (id: string | undefined, method: string, path: string) => {
  const pod = pods.get(String(id));
  if (pod === undefined) throw new Error(`${method} ${path}: reaches ${id}`);
  return pod(method, path);
};

for (const folder of ["k8s/gateway", ...overlays]) {
  describeRendered(`through the HTTPRoutes of ${folder}`, () => {
    const objects = render(folder);
    const found = ofKind<HttpRoute>(objects, "gateway.networking.k8s.io/v1", "HTTPRoute");
    const reached = (method: string, path: string) => functionAt(routedTo(found, method, path));

    test.each(routes.map((route) => [route.id, route] as const))(
      "%s is reached by its method and path",
      (id, route) => {
        for (const path of concrete(route.path))
          expect([path, reached(route.method, path)]).toEqual([path, id]);
      },
    );

    test("HEAD reaches what GET reaches", () => {
      const paths = routes.filter(({ method }) => method === "GET").flatMap(({ path }) => concrete(path));
      expect(paths.length).toBeGreaterThan(10);
      expect(paths.map((path) => reached("HEAD", path))).toEqual(paths.map((path) => reached("GET", path)));
    });

    test("HEAD is matched by name wherever GET is, whatever else a path has", () => {
      const rules = found.flatMap(({ spec }) => spec.rules).map(({ matches }) => matches);
      const methods = rules.map((matches) => matches.map(({ method }) => method));
      expect(methods.filter((some) => some.includes("GET")).length).toBe(
        routes.filter(({ method }) => method === "GET").length,
      );
      for (const some of methods) expect(some.includes("HEAD")).toBe(some.includes("GET"));
    });

    test("OPTIONS, and methods that a path does not have, reach a function that knows what it has", async () => {
      const templates = [...new Set(routes.map(({ path }) => path))];
      for (const template of templates) {
        const allow = allowedMethods(template);
        for (const path of concrete(template)) {
          for (const method of METHODS.filter((one) => one === "OPTIONS" || !allow.includes(one))) {
            const { status, headers } = await send(reached(method, path), method, path);
            expect([path, status, headers.get("allow")]).toEqual([
              path,
              method === "OPTIONS" ? 204 : 405,
              allow.join(", "),
            ]);
          }
        }
      }
    });

    test("paths with a parameter take no request from those without", () => {
      expect(reached("GET", "/audit")).toBe("audit-list");
      expect(reached("GET", "/audit/integrity")).toBe("audit-verify");
      expect(reached("GET", "/api-keys")).toBe("api-keys-list");
      expect(reached("DELETE", "/api-keys/key_1")).toBe("api-keys-delete");
      expect(reached("POST", "/data")).toBe("data-create");
      expect(reached("PUT", "/data/x")).toBe("data-update");
    });

    test("nothing else is reached: neither health nor metrics nor events nor what is only alike", () => {
      const system = ["/health", "/health/liveness", "/health/readiness", "/metrics"];
      const events = eventRoutes.map(({ path }) => path);
      const alike = [
        "/",
        "",
        "/database",
        "/DATA",
        "//data",
        "/data2/x",
        "/tokens",
        "/token/",
        "/users",
        "/users/me/",
        "/users/you",
        "/audit/",
        "/audit/x",
        "/audit/integrity/x",
        "/%64ata",
        "/trigger-log-offload/x",
      ];
      for (const path of [...system, ...events, ...alike])
        for (const method of METHODS)
          expect([method, path, reached(method, path)]).toEqual([method, path, undefined]);
    });

    test("what a prefix takes in beyond one segment its function refuses", async () => {
      const prefixes = ["/data", "/api-keys"];
      const beyond = [
        "/",
        "/x/",
        "/a/b",
        "//x",
        "/x//",
        "/../metrics",
        "/%2e%2e/metrics",
        "/..%2fmetrics/x",
        "/x/../../events/audit-relay",
        "/./x",
        "\\..\\metrics",
      ];
      for (const path of prefixes.flatMap((prefix) => beyond.map((rest) => prefix + rest))) {
        for (const method of ["GET", "PUT", "DELETE", "POST"]) {
          const id = reached(method, path);
          // Of a gateway that goes by the path as it is; one that normalises it first is asked for /metrics, as above.
          if (id === undefined) continue;
          const { status } = await send(id, method, path);
          expect([method, path, [400, 404].includes(status)]).toEqual([method, path, true]);
        }
      }
    });

    test("all functions with a public route are named, and no other", () => {
      const named = found
        .flatMap(({ spec }) => spec.rules)
        .map(({ filters }) => functionAt(filters[0]?.urlRewrite.hostname));
      expect([...new Set(named)].sort()).toEqual(routes.map(({ id }) => id as string).sort());
    });

    test("each has 16 rules at most, and each rule one rewrite of the host", () => {
      for (const { spec } of found) {
        expect(spec.rules.length).toBeLessThanOrEqual(16);
        expect(spec.rules.map(({ filters }) => filters.map(({ type }) => type))).toEqual(
          spec.rules.map(() => ["URLRewrite"]),
        );
      }
    });

    test("requests go to Kourier's internal gateway, which a ReferenceGrant in its namespace allows", () => {
      const backends = found.flatMap(({ spec }) => spec.rules).flatMap(({ backendRefs }) => backendRefs);
      const kourier = { name: "kourier-internal", namespace: "kourier-system", port: 80 };
      expect(backends).toEqual(backends.map(() => kourier));
      const [grant] = ofKind<ReferenceGrant>(objects, "gateway.networking.k8s.io/v1beta1", "ReferenceGrant");
      expect(grant?.metadata.namespace).toBe(kourier.namespace);
      expect(grant?.spec).toEqual({
        from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "latchkey" }],
        to: [{ group: "", kind: "Service", name: kourier.name }],
      });
    });

    test("they hang on the Gateway", () => {
      const [gateway] = ofKind(objects, "gateway.networking.k8s.io/v1", "Gateway");
      expect(gateway?.metadata.namespace).toBe("latchkey");
      for (const { metadata, spec } of found) {
        expect(metadata.namespace).toBe("latchkey");
        expect(spec.parentRefs).toEqual([{ name: gateway?.metadata.name }]);
      }
    });
  });
}

test("where paths go on behind a parameter, each is told apart by an expression that excludes the others", () => {
  const row = (id: string, method: Route["method"], path: string) => ({
    ...(routes[0] as Route),
    id,
    method,
    path,
  });
  const made = httpRoutes([
    row("api-keys-list", "GET", "/api-keys"),
    row("api-keys-get", "GET", "/api-keys/{key_id}"),
    row("usage-get", "GET", "/api-keys/{key_id}/usage"),
    row("api-keys-rotate", "POST", "/api-keys/{key_id}/rotate"),
    row("api-keys-verify", "POST", "/api-keys/verify"),
    row("jwks", "GET", "/.well-known/jwks.json"),
  ]) as Manifest<HttpRoute>[];
  const reached = (method: string, path: string) => functionAt(routedTo(made, method, path));
  expect(made.map(({ metadata }) => metadata.name)).toEqual(["api-keys", "well-known"]);
  expect(reached("GET", "/api-keys")).toBe("api-keys-list");
  expect(reached("GET", "/api-keys/k%2Fusage")).toBe("api-keys-get");
  expect(reached("GET", "/api-keys/k/usage")).toBe("usage-get");
  expect(reached("POST", "/api-keys/k/rotate")).toBe("api-keys-rotate");
  expect(reached("GET", "/api-keys/k/rotate")).toBe("api-keys-rotate");
  expect(reached("GET", "/api-keys/k/other")).toBeUndefined();
  expect(reached("GET", "/.well-known/jwks.json")).toBe("jwks");
  expect(reached("GET", "/.well-known/jwksXjson")).toBeUndefined();
});

test("a resource with more rules than an HTTPRoute may have is refused, not cut", () => {
  const many = Array.from({ length: 9 }, (_, at) => ({ ...(routes[0] as Route), path: `/token/${at}` }));
  expect(() => httpRoutes(many)).toThrow("18 rules are too many");
});
