/** The API as somebody has deployed it, known by its address and by the users of two tenants that are there for tests. */
import { decodeJwt } from "jose";
import { afterEach, TestRunner } from "vitest";
import type { AuditEntry } from "../../shared/audit.ts";
import { tenantKeys, tenantTag } from "../../shared/redis/keys.ts";
import { DEPLOYED } from "./deployed-at.ts";
import type { TestTenant, TestUser } from "./harness.ts";
import { createHttpClient, type Incoming, type Outgoing } from "./http-client.ts";
import { lacking, skip } from "./skip.ts";

const needed = (name: string): string => {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set`);
  return value;
};

type Client = ReturnType<typeof createHttpClient>;

const elsewhere = {
  app: lacking<never>("runs in this process"),
  config: lacking<never>("knows the configuration"),
  functions: lacking<never>("runs in this process"),
  redis: lacking<never>("looks into the store"),
  store: lacking<never>("looks into the store"),
  /** Nobody can tell; whether it is always the same is for other stands to show. */
  storedKeys: async () => [] as string[],
  secrets: lacking<never>("knows the secrets"),
  logLines: lacking<never>("reads the log"),
  issue: lacking<never>("signs tokens"),
};

/** @param env changes to a configuration that nobody can change: whoever needs them is skipped */
export async function deployedStand(env: Record<string, string>) {
  const changes = Object.keys(env).join(", ");
  if (changes === "") return openDeployed();
  const reason = `needs other settings: ${changes}`;
  if (TestRunner.getCurrentTest() !== undefined) skip(reason);
  return {
    ...elsewhere,
    send: lacking<() => Promise<Incoming>>(reason),
    tenant: lacking<() => Promise<TestTenant>>(reason),
    newTenant: lacking<() => Promise<TestTenant>>(reason),
    trail: lacking<(tenant: TestTenant) => Promise<AuditEntry[]>>(reason),
    close: () => Promise.resolve(),
  };
}

async function openDeployed() {
  const client = createHttpClient(needed(DEPLOYED.url));
  const tenants = await Promise.all(DEPLOYED.tenants.map((one) => logInBoth(client, one)));
  /** What a test has made, to be deleted after it: its path, and whose. */
  const made: { readonly path: string; readonly as: string }[] = [];
  const trails = new WeakMap<TestTenant, () => Promise<AuditEntry[]>>();
  let taken = 0;

  afterEach(async () => {
    taken = 0;
    // Newest first: an item that an API key has made goes before the key.
    for (const { path, as } of made.splice(0).reverse()) {
      const headers = new Headers({ authorization: as });
      await client.send({ method: "DELETE", path, headers, body: undefined });
    }
  });

  return {
    ...elsewhere,
    async send(outgoing: Outgoing, from?: string): Promise<Incoming> {
      const answer = await client.send(sendable(outgoing, from));
      const path = placeOf(outgoing, answer);
      if (path !== undefined) made.push({ path, as: credentialOf(outgoing) });
      return answer;
    },
    /** Each once per test; they are emptied after it, but for their trails. */
    async tenant(): Promise<TestTenant> {
      taken += 1;
      const tenant = { ...(tenants[taken - 1] ?? skip("needs more than two tenants")) };
      trails.set(tenant, await openTrail(client, tenant));
      return tenant;
    },
    newTenant: lacking<() => Promise<TestTenant>>("needs a tenant with an empty trail"),
    trail: async (tenant: TestTenant) => (await trails.get(tenant)?.()) ?? [],
    async close() {
      client.close();
    },
  };
}

/** Of what an answer says to have created. */
function placeOf({ path }: Outgoing, { status, headers, text }: Incoming): string | undefined {
  if (status !== 201) return undefined;
  const { key_id } = JSON.parse(text) as { key_id?: string };
  return key_id === undefined ? (headers.get("location") ?? undefined) : `${path}/${key_id}`;
}

const credentialOf = ({ headers }: Outgoing): string =>
  headers.get("authorization") ?? `Bearer ${headers.get("x-api-key")}`;

/** What an HTTP client on this machine can send; tests that need more are skipped. */
export function sendable(outgoing: Outgoing, from: string | undefined): Outgoing {
  if (from !== undefined) skip("chooses the peer's address");
  if (/\D/.test(outgoing.headers.get("content-length") ?? "")) skip("no HTTP client sends this");
  return outgoing;
}

/** What a tenant's trail has from now on, as `GET /audit` tells it, without the entries of looking. */
async function openTrail(client: Client, { admin }: TestTenant): Promise<() => Promise<AuditEntry[]>> {
  /** Ids of requests that only look. */
  const looks = new Set<string | null>();
  async function page(query: string): Promise<{ data: AuditEntry[]; next_cursor: string | null }> {
    const headers = new Headers({ authorization: `Bearer ${admin.token}` });
    const path = `/audit?limit=100${query}`;
    const {
      status,
      headers: answered,
      text,
    } = await client.send({ method: "GET", path, headers, body: undefined });
    looks.add(answered.get("x-request-id"));
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text}`);
    return JSON.parse(text);
  }
  // What is newest now has been before; of this look's own entry that is not known yet.
  const [before] = (await page("")).data;
  const from = before === undefined ? "" : `&from=${before.timestamp}`;
  const start = before?.seq ?? 0;
  return async () => {
    const entries: AuditEntry[] = [];
    let oldest = Number.POSITIVE_INFINITY;
    for (let cursor = ""; oldest > start + 1; ) {
      const { data, next_cursor } = await page(`${from}${cursor}`);
      entries.unshift(...data.toReversed());
      oldest = entries[0]?.seq ?? 0;
      if (next_cursor === null) break;
      cursor = `&cursor=${next_cursor}`;
    }
    const since = entries.filter(({ seq }) => seq > start);
    const gap = since.find(({ seq }, index) => seq !== start + 1 + index);
    if (gap !== undefined) throw new Error(`the trail has a gap before entry ${gap.seq}`);
    const others = since.filter(({ request_id }) => !looks.has(request_id));
    // As if the tenant were new.
    return others.map((entry, index) => ({ ...entry, seq: index + 1 }));
  };
}

async function logInBoth(client: Client, names: (typeof DEPLOYED.tenants)[number]): Promise<TestTenant> {
  const [admin, user] = [await logIn(client, names.admin), await logIn(client, names.user)];
  const id = String(decodeJwt(admin.token)["tenant_id"]);
  return {
    id,
    keys: tenantKeys(tenantTag(id)),
    admin,
    user,
  };
}

async function logIn(client: Client, name: string): Promise<TestUser> {
  const [, username = "", password = ""] = /^([^:]+):(.+)$/s.exec(needed(name)) ?? [];
  const body = JSON.stringify({ username, password });
  const headers = new Headers({ "content-type": "application/json" });
  const { status, text } = await client.send({ method: "POST", path: "/token", headers, body });
  if (status !== 200) throw new Error(`${name} cannot log in: ${status} ${text}`);
  const token = String((JSON.parse(text) as { access_token: string }).access_token);
  return { id: String(decodeJwt(token).sub), username, password, token };
}
