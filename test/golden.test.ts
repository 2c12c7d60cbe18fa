/** Golden examples of each answer: what changes in them changes what callers see. Update with `npx vitest run -u`. */
import { afterAll, expect, test } from "vitest";
import { type Route, type RouteId, routes } from "../shared/routes.ts";
import { type Answer, createHarness, type TestTenant } from "./support/harness.ts";
import { bodyOf, samples } from "./support/samples.ts";

const api = await createHarness();
afterAll(() => api.close());

/** What differs from run to run, by what it is. Names as a whole: one as short as `a1` is in many a random text. */
function stable(text: string, tenant: TestTenant): string {
  return text
    .replaceAll(`"${tenant.admin.username}"`, '"<admin>"')
    .replaceAll(`"${tenant.id}"`, '"<tenant>"')
    .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "<uuid>")
    .replaceAll(/\b(key|usr|evt)_[0-9A-Za-z]{16}\b/g, "$1_<id>")
    .replaceAll(/^etag: "\d+"/gm, 'etag: "<revision>"')
    .replaceAll(/lk_live_/g, "lk_test_")
    .replaceAll(/lk_test_[0-9A-Za-z]{54}_[0-9A-Za-z]{6}/g, "<key text>")
    .replaceAll(/lk_test_…[0-9A-Za-z]{4}/g, "lk_test_…<last 4>")
    .replaceAll(/\beyJ[\w-]+\.[\w-]+\.[\w-]+/g, "<JWT>")
    .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "<time>")
    .replaceAll(/"[0-9A-Za-z]{22}"/g, '"<request id>"');
}

const example = (title: string, { status, headers, body }: Answer, tenant: TestTenant): string => {
  const lines = [...headers].map(([name, value]) => `${name}: ${value}`);
  const id = headers.get("x-request-id") ?? "none";
  const text = `${status}\n${lines.join("\n")}\n\n${body ? JSON.stringify(body, null, 2) : ""}`;
  return `### ${title}\n${stable(text.replaceAll(id, "<request id>"), tenant).trim()}\n`;
};

test.each(routes as readonly Route[])("$id", async (route) => {
  const tenant = await (route.target === "audit" ? api.newTenant() : api.tenant());
  const examples: string[] = [];
  const show = async (title: string, as: string | undefined, change: object = {}, path?: string) => {
    const sample = await samples[route.id as RouteId](api, tenant);
    const send = { ...(as === undefined ? {} : { as }), ...bodyOf(sample), ...change };
    examples.push(example(title, await api.send(route.method, path ?? sample.path, send), tenant));
  };
  await show("as it should be", tenant.admin.token);
  if (route.credential !== "none") {
    await show("without a credential", undefined);
    await show("with a credential that is not valid", "nobody");
  }
  if (route.permission === "audit:read") await show("without the permission", tenant.user.token);
  if (route.path.includes("{")) {
    await show(
      "what is not there",
      tenant.admin.token,
      {},
      route.path.replace(/\{.*\}/, `key_${"0".repeat(16)}`),
    );
  }
  const sample = await samples[route.id as RouteId](api, tenant);
  if (sample.json) {
    await show("with an unknown field", tenant.admin.token, { json: { ...sample.json, nosuch: 1 } });
    await show("with a body that is not JSON", tenant.admin.token, {
      raw: "{",
      headers: { "content-type": "application/json" },
    });
    await show("with a body of another type", tenant.admin.token, {
      raw: "x",
      headers: { "content-type": "text/plain" },
    });
  }
  await expect(examples.join("\n")).toMatchFileSnapshot(`golden/${route.id}.txt`);
});
