/** What somebody inside the cluster's network puts where entries come from does not lead astray who reads the trail. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEntry } from "../shared/audit.ts";
import { toEvents } from "../shared/events.ts";
import { pushBody } from "../shared/loki.ts";
import { encodeEvent } from "../shared/node/cloud-events.ts";
import { forEachLoki } from "./support/each-loki.ts";
import type { TestTenant } from "./support/harness.ts";
import { entryOf } from "./support/loki-tools.ts";
import { startPipeline } from "./support/pipeline.ts";
import { until } from "./support/process.ts";

forEachLoki({}, ({ loki }) => {
  let pipeline: Awaited<ReturnType<typeof startPipeline>>;
  let tenant: TestTenant;
  /** Of a number that comes tomorrow, as of now. */
  let forged: AuditEntry;
  beforeAll(async () => {
    pipeline = await startPipeline(loki().url);
    tenant = await pipeline.api.tenant();
    for (let i = 0; i < 5; i += 1) await pipeline.api.send("GET", "/users/me", { as: tenant.user.token });
    await until("the outbox to be empty", async () => (await pipeline.waiting(tenant)) === 0);
    forged = entryOf({ tenant_id: tenant.id, seq: 1_000, username: "nobody" });
  });
  afterAll(() => pipeline?.stop());

  const read = async (path: string) => {
    const { status, body } = await pipeline.api.send("GET", path, { as: tenant.admin.token });
    expect(status).toBe(200);
    return body;
  };

  test("audit-ship refuses a number that was not given out, and takes none of the event", async () => {
    const [event] = toEvents("/functions/test", [{ ...forged, seq: 1 }, forged]);
    if (event === undefined) throw new Error("no event");
    const answer = await fetch(`${pipeline.ship.origin}/events/audit-ship`, {
      method: "POST",
      ...(await encodeEvent(event)),
    });
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining("unknown_number")]);
    expect(await pipeline.loki.tenant(tenant.id).seqs()).toEqual([5, 4, 3, 2, 1]);
  });

  test("a number that was not given out and stands in Loki is on no page and in no proof", async () => {
    expect((await pipeline.loki.tenant(tenant.id).push(pushBody([forged]))).status).toBe(204);
    for (const limit of [1, 2, 3]) {
      const entries: AuditEntry[] = [];
      let path: string | null = `/audit?limit=${limit}&action=get_user`;
      for (let pages = 0; path !== null; pages += 1) {
        expect(pages).toBeLessThan(20);
        const { data, next_cursor } = await read(path);
        entries.push(...data);
        path = next_cursor === null ? null : `/audit?limit=${limit}&action=get_user&cursor=${next_cursor}`;
      }
      expect([limit, entries.map(({ seq }) => seq)]).toEqual([limit, [5, 4, 3, 2, 1]]);
    }
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    for (const query of ["", `?to=${tomorrow}`, `?from=2020-01-01T00:00:00Z&to=${tomorrow}`]) {
      const { first, gaps, duplicates, complete } = await read(`/audit/integrity${query}`);
      expect([query, first, gaps, duplicates, complete]).toEqual([query, 1, [], [], true]);
    }
  });
});
