/** What the double of Loki can be made to do that a real one cannot be asked for. */
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pushBody } from "../shared/loki.ts";
import { createLokiClient } from "../shared/node/loki-client.ts";
import { startDouble } from "./support/loki.ts";
import type { LokiDouble } from "./support/loki-double.ts";
import { entriesOf, lokiTools } from "./support/loki-tools.ts";

let loki: LokiDouble;
beforeAll(async () => {
  loki = await startDouble();
});
afterAll(() => loki.stop());

test("the next pushes fail as told, stored or not, then all is well", async () => {
  const { tenant, push, seqs } = lokiTools(loki.url).tenant();
  const bodies = entriesOf(tenant, 3).map((entry) => pushBody([entry]));
  loki.failNext(1, { do: "answer", status: 503, text: "busy" });
  loki.failNext(1, { do: "answer", status: 500, store: true });
  expect(await push(bodies[0] as string)).toEqual({ status: 503, text: "busy" });
  expect((await push(bodies[1] as string)).status).toBe(500);
  expect((await push(bodies[2] as string)).status).toBe(204);
  expect(await seqs()).toEqual([3, 2]);
  expect(loki.pushes.slice(-3).map(({ status, entries }) => [status, entries])).toEqual([
    [503, 1],
    [500, 1],
    [204, 1],
  ]);
});

test("a push that hangs or is cut off throws in the client, whether it was stored or not", async () => {
  const { tenant, seqs } = lokiTools(loki.url).tenant();
  const client = createLokiClient({ url: loki.url, timeoutMs: 300 });
  const [first, second] = entriesOf(tenant, 2).map((entry) => pushBody([entry]));
  loki.failNext(1, { do: "hang" }, tenant);
  loki.failNext(1, { do: "cut", store: true }, tenant);
  await expect(client.push(tenant, first as string)).rejects.toThrow(/timeout/);
  await expect(client.push(tenant, second as string)).rejects.toThrow();
  expect(await seqs()).toEqual([2]);
});

test("one tenant is held while another goes on", async () => {
  const [held, free] = [lokiTools(loki.url).tenant(), lokiTools(loki.url).tenant()];
  loki.hold(held.tenant);
  expect((await held.push(pushBody(entriesOf(held.tenant, 1)))).status).toBe(429);
  expect((await free.push(pushBody(entriesOf(free.tenant, 1)))).status).toBe(204);
  loki.release(held.tenant);
  expect((await held.push(pushBody(entriesOf(held.tenant, 1)))).status).toBe(204);
});

/** Something in front of Loki, or in its place. */
async function startProxy(answer: RequestListener) {
  const proxy = createServer(answer);
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    client: createLokiClient({ url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` }),
    stop() {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

test.each([
  ["7", { retryAfterMs: 7_000 }],
  ["Wed, 21 Oct 2026 07:28:00 GMT", {}],
  ["-1", {}],
])("Retry-After: %s of a proxy in front of Loki is told with the answer", async (value, told) => {
  const proxy = await startProxy((_, answer) =>
    answer.writeHead(429, { "retry-after": value }).end("slowly"),
  );
  expect(await proxy.client.push("acme", "{}")).toEqual({ status: 429, text: "slowly", ...told });
  proxy.stop();
});

test("a redirection is not followed: a tenant's entries go nowhere but to Loki", async () => {
  const paths: (string | undefined)[] = [];
  const proxy = await startProxy((request, answer) => {
    paths.push(request.url);
    answer.writeHead(307, { location: "/elsewhere" }).end();
  });
  expect((await proxy.client.push("acme", "{}")).status).toBe(307);
  expect(paths).toEqual(["/loki/api/v1/push"]);
  proxy.stop();
});

test("of an answer without end the beginning is read", async () => {
  const proxy = await startProxy((_, answer) => {
    answer.writeHead(400);
    const more = () => answer.write("x".repeat(50_000), (error) => error ?? more());
    more();
  });
  const { status, text } = await proxy.client.push("acme", "{}");
  expect([status, text.length < 1_000_000]).toEqual([400, true]);
  proxy.stop();
});
