import { afterAll, expect, test } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { createHarness, type TestTenant } from "../support/harness.ts";
import { expectProblem } from "../support/samples.ts";

const api = await createHarness();
const small = await createHarness({ AUDIT_OUTBOX_MAX_ENTRIES: "1500" });
afterAll(() => Promise.all([api.close(), small.close()]));

const list = async (tenant: TestTenant, query = "") =>
  api.send("GET", `/audit${query}`, { as: tenant.admin.token });

/** Every entry that the pages of a query hold. */
async function pages(tenant: TestTenant, query: string): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  let cursor = "";
  for (let page = 0; page < 50; page += 1) {
    const { body } = await list(tenant, `?${query}${cursor}`);
    entries.push(...body.data);
    if (body.next_cursor === null) return entries;
    cursor = `&cursor=${body.next_cursor}`;
  }
  throw new Error("the pages do not end");
}

test("an entry says who did what to what, how it ended, and how to trace it", async () => {
  const tenant = await api.tenant();
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const headers = { "x-request-id": "req-1", traceparent };
  await api.send("GET", "/data/none", { as: tenant.user.token, headers, from: "::ffff:192.0.2.7" });
  const [entry] = (await list(tenant)).body.data;
  expect(entry).toEqual({
    id: expect.stringMatching(/^evt_[0-9A-Za-z]{16}$/),
    seq: 1,
    timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    action: "get_key",
    tenant_id: tenant.id,
    username: tenant.user.username,
    actor: { type: "user", id: tenant.user.id },
    outcome: "failure",
    request_id: "req-1",
    traceparent,
    source_ip: "192.0.2.7",
    target: { type: "item", id: "none" },
    details: { reason: "not_found" },
  });
});

test("entries come newest first, numbered without a gap, never older than the one before", async () => {
  const tenant = await api.newTenant();
  await Promise.all(
    Array.from({ length: 30 }, (_, i) => api.send("GET", `/data/${i}`, { as: tenant.user.token })),
  );
  const { data } = (await list(tenant)).body;
  expect(data.map((entry: AuditEntry) => entry.seq)).toEqual(Array.from({ length: 30 }, (_, i) => 30 - i));
  const times = data.map((entry: AuditEntry) => entry.timestamp);
  expect(times).toEqual([...times].sort().reverse());
});

test("looking at the trail is in the trail", async () => {
  const tenant = await api.newTenant();
  await list(tenant);
  expect((await list(tenant)).body.data).toMatchObject([
    { seq: 1, action: "list_audit", outcome: "success" },
  ]);
});

test("pages neither skip nor repeat, whatever the filter, while entries are added", async () => {
  const tenant = await api.newTenant();
  const key = await api.apiKey(tenant);
  for (let i = 0; i < 12; i += 1) {
    await api.send("POST", "/data", {
      as: i % 2 ? key.text : tenant.user.token,
      json: { key: `k${i % 4}`, value: i },
    });
  }
  const before = await api.trail(tenant);
  const filters: [string, (entry: AuditEntry) => boolean][] = [
    ["action=create_key", (entry) => entry.action === "create_key"],
    ["outcome=failure", (entry) => entry.outcome === "failure"],
    [`actor=${key.id}`, (entry) => entry.actor.id === key.id],
    ["key=k1", (entry) => entry.target.id === "k1"],
    [
      `action=create_key&outcome=success&actor=${key.id}`,
      (e) => e.action === "create_key" && e.outcome === "success" && e.actor.id === key.id,
    ],
  ];
  for (const [query, matches] of filters) {
    const found = await pages(tenant, `${query}&limit=2`);
    expect([query, found.filter(({ seq }) => seq <= before.length)]).toEqual([
      query,
      before.filter(matches).reverse(),
    ]);
  }
  expect(
    (await pages(tenant, "limit=3"))
      .map(({ seq }) => seq)
      .reverse()
      .slice(0, before.length),
  ).toEqual(before.map(({ seq }) => seq));
});

test("from is inclusive, to is exclusive", async () => {
  const tenant = await api.newTenant();
  for (let i = 0; i < 3; i += 1) {
    await api.send("GET", `/data/${i}`, { as: tenant.user.token });
    const { timestamp } = (await api.trail(tenant)).at(-1) as AuditEntry;
    await expect.poll(() => Date.now()).toBeGreaterThan(Date.parse(timestamp));
  }
  const [first, second, third] = await api.trail(tenant);
  const found = await pages(tenant, `from=${first?.timestamp}&to=${third?.timestamp}`);
  expect(found).toEqual([second, first]);
});

test("a filter that finds little leads on through pages that hold less than asked", async () => {
  const tenant = await api.newTenant();
  await api.send("GET", "/data/needle", { as: tenant.user.token });
  for (let i = 0; i < 11; i += 1) {
    await Promise.all(
      Array.from({ length: 100 }, () => api.send("GET", "/users/me", { as: tenant.user.token })),
    );
  }
  const first = (await list(tenant, "?key=needle")).body;
  expect(first.data).toEqual([]);
  expect((await list(tenant, `?key=needle&cursor=${first.next_cursor}`)).body.data).toMatchObject([
    { seq: 1 },
  ]);
  // Entries never get older from number to number, so what is before `from` leads nowhere.
  const { timestamp } = (await api.trail(tenant)).at(-1) as AuditEntry;
  expect((await list(tenant, `?key=needle&from=${timestamp}`)).body).toEqual({ data: [], next_cursor: null });
});

test("a full outbox refuses with 503 and leaves nothing undone half", async () => {
  const tenant = await small.tenant();
  await api.redis.xadd(tenant.keys.outbox, "1-0", "filler", "1");
  for (let i = 2; i <= 1500; i += 1) void api.redis.xadd(tenant.keys.outbox, `${i}-0`, "filler", "1");
  await api.redis.hset(tenant.keys.tenant, "seq", 1500);
  const refused = await small.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 1 } });
  expectProblem(refused, 503, "audit_unavailable");
  expect(refused.headers.get("retry-after")).toBe("1");
  expect(await api.redis.exists(tenant.keys.item("a"))).toBe(0);
  await api.redis.xdel(tenant.keys.outbox, "1-0");
  const taken = await small.send("POST", "/data", { as: tenant.admin.token, json: { key: "a", value: 1 } });
  expect(taken.status).toBe(201);
});

test.each(["action=nosuch", "outcome=maybe", "from=yesterday", "to=2026-13-01T00:00:00Z", "key=", "actor="])(
  "a filter that makes no sense: 422 (%s)",
  async (query) => {
    expectProblem(await list(await api.tenant(), `?${query}`), 422, "validation_failed");
  },
);

test("a clock that was set back does not set the trail back", async () => {
  const tenant = await api.tenant();
  const ahead = Date.now() + 3_600_000;
  await api.redis.hset(tenant.keys.tenant, "at", ahead);
  await api.send("GET", "/data/none", { as: tenant.user.token });
  expect((await api.trail(tenant))[0]?.timestamp).toBe(new Date(ahead).toISOString());
});

test("a tenant is pending since its oldest entry", async () => {
  const tenant = await api.tenant();
  const read = () => api.send("GET", "/data/none", { as: tenant.user.token });
  await read();
  const [first] = await api.trail(tenant);
  await expect.poll(() => Date.now()).toBeGreaterThan(Date.parse(first?.timestamp ?? ""));
  await read();
  expect(Number(await api.redis.zscore(tenant.keys.pending, tenant.id))).toBe(
    Date.parse(first?.timestamp ?? ""),
  );
});

test("a traceparent that is none stays out of the trail", async () => {
  const tenant = await api.tenant();
  for (const traceparent of ["x", `00-${"0".repeat(32)}-${"1".repeat(16)}-01`]) {
    await api.send("GET", "/data/none", { as: tenant.user.token, headers: { traceparent } });
  }
  expect((await api.trail(tenant)).map((entry) => entry.traceparent)).toEqual([undefined, undefined]);
});
