/** The API as the suites see it, wherever it runs, with tenants to use and a record of everything that left. */
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
import type { Store } from "../../shared/redis/store.ts";
import { createTenant, createUser } from "../../shared/redis/tenants.ts";
import { createTokenIssuer, type TokenIssuer } from "../../shared/tokens.ts";
import { deployedStand, sendable } from "./deployed.ts";
import { startGateway } from "./gateway.ts";
import { createHttpClient, type Incoming, type Outgoing } from "./http-client.ts";

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
  readonly password: string;
  readonly token: string;
}
export interface TestTenant {
  readonly id: string;
  readonly keys: TenantKeys;
  readonly admin: TestUser;
  readonly user: TestUser;
}

/** Of an API key's text: what nobody may learn, without the underscore and the checksum behind it. */
export const secretPartOf = (text: string): string => text.slice(-34, -7);

export const PASSWORD = "correct horse battery staple";

/** Where a suite's requests go, and what it may look into. */
type Stand = Awaited<ReturnType<typeof localStand>>;

const openStand = (env: Record<string, string>): Promise<Stand> =>
  inject("through") === "url" ? deployedStand(env) : localStand(env);

/** The whole API in this process; with `through: "nginx"` the requests go to processes of their own instead. */
async function localStand(env: Record<string, string>) {
  const made: Record<string, string> = inject("gateway")?.secrets ?? (await makeSecrets("demo"));
  const settings: Record<string, string> = {
    ...{ LATCHKEY_MODE: "local", REDIS_URL: inject("redisUrl") },
    ...made,
    ...env,
  };
  const secrets = Object.fromEntries(Object.keys(made).map((name) => [name, settings[name] ?? ""]));
  const config: Config = parseConfig(settings);
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
  const gateway = inject("through") === "nginx" ? await openGateway(settings, env) : undefined;

  async function send({ method, path, headers, body }: Outgoing, from?: string): Promise<Incoming> {
    const request = new Request(`http://latchkey.test${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: body as BodyInit, duplex: "half" as const }),
    });
    const peer = from === undefined ? {} : { incoming: { socket: { remoteAddress: from } } };
    const response = await app.fetch(request, peer);
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  return {
    ...{ app, config, functions, redis, store, secrets, logLines, issue },
    send: gateway?.send ?? send,
    /** A tenant that nobody else has, with an admin and a user. */
    tenant: () => makeTenant(store, issue),
    /** The same; where the API is deployed already there is none. */
    newTenant: () => makeTenant(store, issue),
    /** What the tenant has in the store besides its audit trail. */
    storedKeys: async ({ keys }: TestTenant): Promise<string[]> =>
      (await redis.keys(`*${keys.tag}*`)).filter((key) => key !== keys.outbox).sort(),
    /** Entries of the tenant's trail, oldest first, read straight from the stream. */
    trail: (tenant: TestTenant) => readTrail(redis, tenant),
    async close() {
      await gateway?.close();
      await close(5_000);
      await redis.quit();
    },
  };
}

/** The one that all share, or one of its own for changed settings. */
async function openGateway(settings: Record<string, string>, changes: Record<string, string>) {
  const shared = Object.keys(changes).length === 0 ? inject("gateway") : undefined;
  const own = shared === undefined ? await startGateway(settings) : undefined;
  const client = createHttpClient((shared ?? own)?.origin ?? "");
  return {
    send: (outgoing: Outgoing, from?: string) => client.send(sendable(outgoing, from)),
    async close() {
      client.close();
      await own?.stop();
    },
  };
}

let passwordHash: Promise<string> | undefined;
const makeHash = (): Promise<string> => {
  passwordHash ??= createPasswordHasher(1).hash(PASSWORD, "tests");
  return passwordHash;
};

async function makeTenant(store: Store, issue: TokenIssuer): Promise<TestTenant> {
  const id = `t-${crypto.randomUUID()}`;
  await createTenant(store, id);
  const user = async (role: Role): Promise<TestUser> => {
    const username = `${role}@${id}`;
    const userId = await createUser(store, id, { username, passwordHash: await makeHash(), role });
    if (userId === undefined) throw new Error(`${username} is taken`);
    const { token } = await issue({ tenantId: id, userId, role, epoch: 0 });
    return { id: userId, username, password: PASSWORD, token };
  };
  return { id, keys: tenantKeys(tenantTag(id)), admin: await user("admin"), user: await user("user") };
}

export type Harness = Awaited<ReturnType<typeof createHarness>>;

/**
 * @param env changes to the configuration. Where the API is deployed already nobody can change it: then a test that sends
 * something, or looks into what only a process of ours would show, is skipped with the reason.
 */
export async function createHarness(env: Record<string, string> = {}) {
  const stand = await openStand(env);
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
    const answer = await stand.send({ method, path, headers: all, body }, from);
    const text = `${JSON.stringify([...answer.headers])}\n${answer.text}`;
    answers.push({ function: `${method} ${path}`, text });
    return { ...answer, body: answer.text === "" ? undefined : parse(answer.text) };
  }

  return {
    ...stand,
    answers,
    send,
    /** A new API key of the tenant: its id and text. */
    async apiKey(tenant: TestTenant, settings: object = {}): Promise<{ id: string; text: string }> {
      const { body } = await send("POST", "/api-keys", {
        as: tenant.admin.token,
        json: { name: "test", ...settings },
      });
      if (!looksLikeApiKey(body?.key_value ?? "")) throw new Error(`no key: ${JSON.stringify(body)}`);
      return { id: body.key_id, text: body.key_value };
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
