/** Entries to push, and ways to push and to look, for tests over any Loki. */
import { createHash } from "node:crypto";
import type { AuditEntry } from "../../shared/audit.ts";
import { entryFromLine, logQuery } from "../../shared/loki.ts";
import { createLokiClient, type LokiLine, type RangeQuery } from "../../shared/node/loki-client.ts";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** The id of an entry that this text stands for. */
export const eventIdOf = (text: string): string =>
  `evt_${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;

/** An entry like any other, but for what is given. @param at milliseconds since 1970, in place of `timestamp` */
export function entryOf({ at, ...given }: Partial<AuditEntry> & { at?: number } = {}): AuditEntry {
  const { tenant_id = "tenant1", seq = 1 } = given;
  const user = { type: "user", id: "usr_1" } as const;
  return {
    id: eventIdOf(`${tenant_id} ${seq}`),
    seq,
    tenant_id,
    action: "get_key",
    username: "ada",
    actor: user,
    outcome: "success",
    request_id: `req-${seq}`,
    target: { type: "item", id: `item-${seq}` },
    details: {},
    timestamp: new Date(at ?? Date.now()).toISOString(),
    ...given,
    ...(at === undefined ? {} : { timestamp: new Date(at).toISOString() }),
  };
}

/** Entries 1..count of a tenant, all of one millisecond. */
export function entriesOf(
  tenant: string,
  count: number,
  given: Partial<AuditEntry> & { at?: number } = {},
): AuditEntry[] {
  const at = given.at ?? Date.now();
  return Array.from({ length: count }, (_, index) =>
    entryOf({ tenant_id: tenant, ...given, seq: index + 1, at }),
  );
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

export function lokiTools(url: string) {
  async function send(
    path: string,
    { body, headers }: { body?: BodyInit; headers?: HeadersInit } = {},
  ): Promise<Answer> {
    const response = await fetch(`${url}/loki/api/v1/${path}`, {
      ...(body === undefined ? {} : { method: "POST", body }),
      headers: { "Content-Type": "application/json", ...headers },
      signal: AbortSignal.timeout(20_000),
    });
    return { status: response.status, text: await response.text() };
  }

  async function flush(tenant: string): Promise<Response> {
    return fetch(`${url}/flush`, { method: "POST", headers: { "X-Scope-OrgID": tenant } });
  }

  /** Tools for one tenant, by default one that nobody else has. */
  function tenantTools(tenant = `t-${crypto.randomUUID()}`) {
    const headers = { "X-Scope-OrgID": tenant };
    const client = createLokiClient({ url });
    const range = (given: Record<string, string>): Promise<Answer> => {
      const now = BigInt(Date.now()) * 1_000_000n;
      const start = String(now - BigInt(30 * DAY) * 1_000_000n);
      const end = String(now + BigInt(20 * MINUTE) * 1_000_000n);
      const search = new URLSearchParams({ query: logQuery(tenant, {}), start, end, ...given });
      return send(`query_range?${search}`, { headers });
    };
    const lines = (given: Partial<RangeQuery> = {}): Promise<LokiLine[]> => {
      const now = Date.now();
      return client.queryRange(tenant, {
        query: logQuery(tenant, {}),
        start: `${now - 30 * DAY}000000`,
        end: `${now + 20 * MINUTE}000000`,
        limit: 5_000,
        direction: "backward",
        ...given,
      });
    };
    return {
      tenant,
      client,
      range,
      lines,
      /** @param body bytes are sent as gzip, other than text as JSON */
      push(body: object | string): Promise<Answer> {
        if (!(body instanceof Uint8Array)) {
          return send("push", { body: typeof body === "string" ? body : JSON.stringify(body), headers });
        }
        return send("push", {
          body: new Uint8Array(body),
          headers: { ...headers, "Content-Encoding": "gzip" },
        });
      },
      /** Sequence numbers of the entries that match, newest first. */
      async seqs(query: string = logQuery(tenant, {})): Promise<(number | undefined)[]> {
        return (await lines({ query })).map(({ line }) => entryFromLine(line)?.seq);
      },
      /** The number that an instant query answers; 0 for none. */
      async count(query: string): Promise<number> {
        const { text } = await send(`query?${new URLSearchParams({ query })}`, { headers });
        const { data } = JSON.parse(text) as { data: { result: { value: [number, string] }[] } };
        return Number(data.result[0]?.value[1] ?? 0);
      },
    };
  }

  return { send, flush, tenant: tenantTools };
}
