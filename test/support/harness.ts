/** The whole API in this process, over a real Redis, with fresh tenants and a record of everything that left. */
import type { Redis } from "ioredis";
import { inject } from "vitest";
import { looksLikeApiKey } from "../../shared/api-key.ts";
import { type Config, parseConfig } from "../../shared/config.ts";
import { schemasOf } from "../../shared/function.ts";
import { makeSecrets } from "../../shared/node/dev/make-secrets.ts";
import { loadPublicFunctions } from "../../shared/node/functions.ts";
import { createLog } from "../../shared/node/log.ts";
import { createPasswordHasher } from "../../shared/node/passwords.ts";
import { createProcess } from "../../shared/node/server.ts";
import type { Role } from "../../shared/permissions.ts";
import { type TenantKeys, tenantKeys, tenantTag } from "../../shared/redis/keys.ts";
import { createTenant, createUser } from "../../shared/redis/tenants.ts";
import { createTokenIssuer } from "../../shared/tokens.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed JSON body; undefined when there is none. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly body: any;
}

export interface Send {
  /** A JWT or an API key. */
  readonly as?: string;
  readonly json?: unknown;
  readonly raw?: string | Uint8Array | ReadableStream;
  readonly headers?: Record<string, string>;
  /** The peer's address. */
  readonly from?: string;
}

export interface TestUser {
  readonly id: string;
  readonly username: string;
  readonly token: string;
}
export interface TestTenant {
  readonly id: string;
  readonly keys: TenantKeys;
  readonly admin: TestUser;
  readonly user: TestUser;
}

export const PASSWORD = "correct horse battery staple";

export type Harness = Awaited<ReturnType<typeof createHarness>>;

/** @param env changes to the configuration */
export async function createHarness(env: Record<string, string> = {}) {
  const secrets = await makeSecrets("demo");
  const config: Config = parseConfig({
    LATCHKEY_MODE: "local",
    REDIS_URL: inject("redisUrl"),
    ...secrets,
    ...env,
  });
  const functions = await loadPublicFunctions();
  const logLines: string[] = [];
  const log = createLog("debug", schemasOf(functions), { write: (line) => void logLines.push(line) });
  const { app, redis: connection, store, connected, close } = await createProcess(functions, config, log);
  const redis = connection as Redis;
  // Tests look into it directly, and nothing waits in a queue for a connection.
  await Promise.race([connected, new Promise((resolve) => redis.once("error", resolve))]);
  const issue = await createTokenIssuer(config.LATCHKEY_JWT_PRIVATE_KEY as never, {
    issuer: config.LATCHKEY_JWT_ISSUER,
    audience: config.LATCHKEY_JWT_AUDIENCE,
    lifetime: 600,
  });
  const passwordHash = createPasswordHasher(1).hash(PASSWORD, "tests");
  const answers: { readonly function: string; readonly text: string }[] = [];

  async function send(
    method: string,
    path: string,
    { as, json, raw, headers = {}, from }: Send = {},
  ): Promise<Answer> {
    const all = new Headers(headers);
    if (as !== undefined) all.set("authorization", `Bearer ${as}`);
    if (json !== undefined && !all.has("content-type")) all.set("content-type", "application/json");
    const body = raw ?? (json === undefined ? undefined : JSON.stringify(json));
    // As an HTTP client would: a stream has no length to declare.
    if (body instanceof ReadableStream) all.set("transfer-encoding", "chunked");
    if (typeof body === "string") all.set("content-length", String(Buffer.byteLength(body)));
    if (body instanceof Uint8Array) all.set("content-length", String(body.byteLength));
    const request = new Request(`http://latchkey.test${path}`, {
      method,
      headers: all,
      ...(body === undefined ? {} : { body: body as BodyInit, duplex: "half" as const }),
    });
    const env = from === undefined ? {} : { incoming: { socket: { remoteAddress: from } } };
    const response = await app.fetch(request, env);
    const text = await response.text();
    answers.push({
      function: `${method} ${path}`,
      text: `${JSON.stringify([...response.headers])}\n${text}`,
    });
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: text === "" ? undefined : parse(text),
    };
  }

  async function tenantWith(id: string): Promise<TestTenant> {
    await createTenant(store, id);
    return {
      id,
      keys: tenantKeys(tenantTag(id)),
      admin: await user(id, "admin"),
      user: await user(id, "user"),
    };
  }

  async function user(tenantId: string, role: Role): Promise<TestUser> {
    const username = `${role}@${tenantId}`;
    const id = await createUser(store, tenantId, { username, passwordHash: await passwordHash, role });
    if (id === undefined) throw new Error(`${username} is taken`);
    const { token } = await issue({ tenantId, userId: id, role, epoch: 0 });
    return { id, username, token };
  }

  return {
    app,
    config,
    functions,
    redis,
    store,
    secrets,
    logLines,
    answers,
    issue,
    send,
    /** A tenant that nobody else has, with an admin and a user. */
    tenant: () => tenantWith(`t-${crypto.randomUUID()}`),
    /** A new API key of the tenant: its id and text. */
    async apiKey(tenant: TestTenant, settings: object = {}): Promise<{ id: string; text: string }> {
      const { body } = await send("POST", "/api-keys", {
        as: tenant.admin.token,
        json: { name: "test", ...settings },
      });
      if (!looksLikeApiKey(body?.key_value ?? "")) throw new Error(`no key: ${JSON.stringify(body)}`);
      return { id: body.key_id, text: body.key_value };
    },
    /** Entries of the tenant's trail, oldest first, read straight from the stream. */
    trail: (tenant: TestTenant) => readTrail(redis, tenant),
    async close() {
      await close(5_000);
      await redis.quit();
    },
  };
}

async function readTrail(redis: Redis, tenant: TestTenant) {
  const { decodeEntry } = await import("../../shared/redis/audit.ts");
  const rows = await redis.xrange(tenant.keys.outbox, "-", "+");
  return rows.map(([id, fields]) => decodeEntry(tenant.id, id, fields));
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
