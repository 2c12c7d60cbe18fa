/** The queries that the READMEs show are answered by Loki, and with what they say. */
import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { pushBody } from "../../shared/loki.ts";
import { forEachLoki } from "../support/each-loki.ts";
import { entryOf, MINUTE } from "../support/loki-tools.ts";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const examples = [read("README.md"), read("k8s/README.md")]
  .flatMap((text) => [...text.matchAll(/^```logql\n(.*?)^```/gms)])
  .flatMap(([, block = ""]) => block.trim().split("\n"));

const tenant_id = `t-${crypto.randomUUID()}`;
const facts: readonly Partial<AuditEntry>[] = [
  { action: "login_failed", outcome: "denied" },
  { action: "create_api_key", details: { name: "my program" } },
  { action: "create_key" },
  { action: "get_key" },
  { action: "get_key", username: "eve" },
  { action: "update_key" },
  { action: "delete_key" },
];

/** What each finds, with the tenant of the test in place of tenant1: how many entries, or the numbers that it counts. */
const found: Readonly<Record<string, readonly number[]>> = {
  '{job="audit_logs", tenant_id="tenant1"}': [7],
  '{job="audit_logs", tenant_id="tenant1", action="create_key"}': [1],
  '{job="audit_logs", tenant_id="tenant1", action="get_key"}': [2],
  '{job="audit_logs", tenant_id="tenant1", action="update_key"}': [1],
  '{job="audit_logs", tenant_id="tenant1", action="delete_key"}': [1],
  '{job="audit_logs", tenant_id="tenant1", action="create_api_key"}': [1],
  '{job="audit_logs", tenant_id="tenant1", action=~"get_key|update_key|delete_key"} | username="ada"': [3],
  '{job="audit_logs", tenant_id="tenant1", action="create_api_key"} | json name="details.name" | name="my program"':
    [1],
  '{job="audit_logs", tenant_id="tenant1"} | outcome="denied"': [1],
  'sum by (action) (count_over_time({job="audit_logs", tenant_id="tenant1"}[1h]))': [1, 1, 1, 1, 1, 2],
  'count(sum by (event_id) (count_over_time({job="audit_logs", tenant_id="tenant1", action="login_failed"}[24h])))':
    [1],
};

test("all of them are known here", () => {
  expect([...new Set(examples)].sort()).toEqual(Object.keys(found).sort());
});

forEachLoki({}, ({ tools }) => {
  const now = Date.now();

  beforeAll(async () => {
    const { push } = tools().tenant(tenant_id);
    for (const [index, fact] of facts.entries()) {
      const entry = entryOf({ tenant_id, ...fact, seq: index + 1, at: now - (10 - index) * MINUTE });
      expect((await push(pushBody([entry]))).status).toBe(204);
    }
  });

  test.each(Object.entries(found))("%s", async (example, numbers) => {
    const query = example.replace('tenant_id="tenant1"', `tenant_id="${tenant_id}"`);
    if (query.startsWith("{")) {
      expect([(await tools().tenant(tenant_id).lines({ query })).length]).toEqual(numbers);
      return;
    }
    const search = new URLSearchParams({ query, time: `${now}000000` });
    const { text } = await tools().send(`query?${search}`, { headers: { "X-Scope-OrgID": tenant_id } });
    const { result } = (JSON.parse(text) as { data: { result: { value: [number, string] }[] } }).data;
    expect(result.map(({ value }) => Number(value[1])).sort()).toEqual(numbers);
  });
});
