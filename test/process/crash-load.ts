/** Concurrent writers that remember what they sent and what they were told. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Answer } from "../support/harness.ts";
import { send } from "../support/process.ts";

/** Numbers in [0, 1), the same ones for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Action = "create_key" | "update_key" | "delete_key" | "create_api_key" | "delete_api_key";

/** One request and its fate. */
export interface Sent {
  readonly requestId: string;
  readonly tenant: string;
  readonly writer: string;
  readonly action: Action;
  /** Key of an item or id of an API key; undefined for the creation of an API key that was not answered. */
  target: string | undefined;
  /** `unknown`: no answer, or one that says that it is not known whether it happened. */
  outcome: "acknowledged" | "refused" | "unknown";
  status: number | undefined;
  /** Of the item, as it was answered. */
  version?: number;
  /** Text of the created API key. */
  text?: string;
}

export interface LoadTenant {
  readonly id: string;
  readonly token: string;
  /** An API key, as another credential. */
  readonly apiKey: string;
}

interface Options {
  readonly random: () => number;
  readonly tenants: readonly LoadTenant[];
  /** Where to send; undefined while nobody listens. */
  readonly origin: () => string | undefined;
  /** Told of every request when it is over, `answer` undefined when there was none; the writer goes on after it. */
  readonly observe?: (end: { to: string; took: number; answer: Answer | undefined }) => Promise<void>;
}

const WRITERS_PER_TENANT = 3;
/** Items that a writer alone writes, and that all writers of the tenant fight for. */
const OWN_ITEMS = 3;
const SHARED_ITEMS = 2;

export type Load = ReturnType<typeof startLoad>;

export function startLoad({ random, tenants, origin, observe }: Options) {
  const sent: Sent[] = [];
  const life = { stopping: false, acknowledged: 0 };
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;

  async function attempt(
    tenant: LoadTenant,
    writer: string,
    { action, target }: { action: Action; target?: string | undefined },
    [method, path, json]: readonly [method: string, path: string, json?: (requestId: string) => object],
  ): Promise<Sent> {
    const requestId = `r${sent.length}`;
    const isItem = action.endsWith("_key") && !action.endsWith("api_key");
    const record: Sent = {
      ...{ requestId, tenant: tenant.id, writer, action, target },
      ...{ outcome: "unknown", status: undefined },
    };
    sent.push(record);
    const to = origin() ?? "";
    const began = performance.now();
    let answer: Answer | undefined;
    try {
      answer = await send(to, method, path, {
        as: isItem && random() < 0.5 ? tenant.apiKey : tenant.token,
        headers: { "x-request-id": requestId },
        ...(json === undefined ? {} : { json: json(requestId) }),
      });
      record.status = answer.status;
      if (answer.status < 300) {
        record.outcome = "acknowledged";
        life.acknowledged += 1;
        if (answer.body?.version !== undefined) record.version = answer.body.version;
        if (answer.body?.key_id !== undefined) record.target = answer.body.key_id;
        if (answer.body?.key_value !== undefined) record.text = answer.body.key_value;
      } else if (answer.status !== 503) {
        record.outcome = "refused";
      }
    } catch {
      // No answer: the process died, or was not there.
    }
    await observe?.({ to, took: performance.now() - began, answer });
    return record;
  }

  /** The value of an item is the id of the request that stored it. */
  function itemStep(tenant: LoadTenant, writer: string): Promise<Sent> {
    const own = random() < 0.7;
    const target = own
      ? `${writer}-${Math.floor(random() * OWN_ITEMS)}`
      : `shared-${Math.floor(random() * SHARED_ITEMS)}`;
    const action = pick(["create_key", "update_key", "update_key", "delete_key"] as const);
    const requests = {
      create_key: ["POST", "/data", (value: string) => ({ key: target, value })],
      update_key: ["PUT", `/data/${target}`, (value: string) => ({ value })],
      delete_key: ["DELETE", `/data/${target}`],
    } as const;
    return attempt(tenant, writer, { action, target }, requests[action]);
  }

  /** The name of an API key is the id of the request that created it. */
  async function apiKeyStep(tenant: LoadTenant, writer: string, known: string[]): Promise<Sent> {
    const target = random() < 0.4 ? pick(known) : undefined;
    if (target !== undefined) {
      return attempt(tenant, writer, { action: "delete_api_key", target }, ["DELETE", `/api-keys/${target}`]);
    }
    const create = ["POST", "/api-keys", (name: string) => ({ name })] as const;
    const record = await attempt(tenant, writer, { action: "create_api_key" }, create);
    if (record.target !== undefined) known.push(record.target);
    return record;
  }

  async function write(step: () => Promise<Sent>): Promise<void> {
    while (!life.stopping) {
      if (origin() === undefined) await sleep(5);
      else await step();
    }
  }

  const writers = tenants.flatMap((tenant) => {
    const known: string[] = [];
    const names = Array.from({ length: WRITERS_PER_TENANT }, (_, number) => `writer${number}`);
    return [
      ...names.map((name) => write(() => itemStep(tenant, name))),
      write(() => apiKeyStep(tenant, "keys", known)),
    ];
  });

  return {
    sent,
    acknowledged: () => life.acknowledged,
    /** Let every writer finish what it is at. */
    async stop() {
      life.stopping = true;
      await Promise.all(writers);
    },
  };
}
