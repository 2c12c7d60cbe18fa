/** Construction: from configuration and a Redis connection to the services that the functions of a process ask for. */
import type { Logger } from "pino";
import type { AuditEntry } from "../audit.ts";
import { type Config, parseConfig } from "../config.ts";
import { reasonClass } from "../dead-letter.ts";
import { type Gate, hasPublicRoute, type Servable, type Services } from "../function.ts";
import { entryQuery, pushBody } from "../loki.ts";
import { createHistory } from "../loki-history.ts";
import { createApiKeyStore } from "../redis/api-keys.ts";
import { createAuditStore } from "../redis/audit.ts";
import { createDeadLetters } from "../redis/dead-letters.ts";
import { createExecute, createRefuse, type Trail } from "../redis/execute.ts";
import { recordExpiries } from "../redis/expiry.ts";
import { createItemStore } from "../redis/items.ts";
import { createLoginStore } from "../redis/logins.ts";
import { createOutbox } from "../redis/outbox.ts";
import type { Store } from "../redis/store.ts";
import { createUserStore } from "../redis/users.ts";
import { createRelay } from "../relay.ts";
import { inOrder } from "../ship-order.ts";
import { createShipper, type Shipper } from "../shipper.ts";
import type { createTokenVerifier } from "../tokens.ts";
import { createKeyHasher } from "./key-hash.ts";
import { createLokiClient } from "./loki-client.ts";
import type { Metrics } from "./metrics.ts";
import { observeBacklog, observeDeadLetters, observePublisher, observeShipper } from "./pipeline-metrics.ts";
import { createPublisher, type Publisher } from "./publisher.ts";

interface Parts {
  readonly store: Store;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Variables that a service cannot do without. */
const required: { readonly [Name in keyof Services]?: readonly (keyof Config)[] } = {
  issueToken: ["LATCHKEY_JWT_PRIVATE_KEY"],
  shipper: ["LOKI_URL"],
};

/** The configuration of a process that serves these functions. @throws {ConfigError} */
export const configFor = (functions: readonly Servable[], env: Parameters<typeof parseConfig>[0]): Config =>
  parseConfig(env, [
    ...new Set(functions.flatMap(({ needs }) => needs.flatMap((name) => required[name] ?? []))),
  ]);

/** A value that `configFor` has seen to. */
function configured<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("configFor() was not asked");
  return value;
}

/** Events carry no tokens: a process without a public route needs no code for them, and its bundle has none. */
async function tokenVerifier(
  functions: readonly Servable[],
  ...rest: Parameters<typeof createTokenVerifier>
) {
  if (!functions.some(hasPublicRoute)) return async () => undefined;
  const tokens = await import("../tokens.ts");
  return tokens.createTokenVerifier(...rest);
}

/** What these functions need and nothing else: a process that signs no tokens holds no private key. */
export async function createServices(
  functions: readonly Servable[],
  config: Config,
  { store, metrics, log }: Parts,
) {
  const tokens = { issuer: config.LATCHKEY_JWT_ISSUER, audience: config.LATCHKEY_JWT_AUDIENCE };
  const authenticator = {
    verifyToken: await tokenVerifier(functions, config.LATCHKEY_JWT_PUBLIC_KEYS.keys, tokens),
    hashKey: createKeyHasher(config.LATCHKEY_API_KEY_PEPPERS),
    keyEnv: config.LATCHKEY_MODE === "production" ? "live" : "test",
  };
  const outbox = createOutbox(store);
  const deadLetters = createDeadLetters(store);

  const source = `/functions/${functions.length === 1 ? functions[0]?.route.id : "all"}`;
  const { K_SINK: sink, K_CE_OVERRIDES: overrides = {} } = config;
  const observe = sink === undefined ? undefined : observePublisher(metrics.registry);
  const newPublisher = (): Publisher | undefined =>
    sink === undefined || observe === undefined
      ? undefined
      : createPublisher({ sink, source, overrides, observe });
  const publisher = newPublisher();
  const trail: Trail = {
    limit: config.AUDIT_OUTBOX_MAX_ENTRIES,
    overflow: config.AUDIT_OVERFLOW,
    onEntry: publisher?.publish,
    onUnaudited: (entries) => metrics.unaudited.inc(entries),
  };
  const execute = createExecute(store.run, trail);
  const loki = config.LOKI_URL === undefined ? undefined : createLokiClient({ url: config.LOKI_URL });
  let shipper: Shipper | undefined;
  const logQuarantine = ({ tenant_id: tenant, seq }: AuditEntry, reason: string): void =>
    log.error({ tenant, seq, reason }, "quarantined");

  const factories: { [Name in keyof Services]: () => Services[Name] | Promise<Services[Name]> } = {
    items: () => createItemStore(execute),
    apiKeys: () => createApiKeyStore(execute, authenticator),
    users: () => createUserStore(execute),
    audit: () => createAuditStore(execute, loki && createHistory(loki)),
    logins: () =>
      createLoginStore({
        store,
        trail,
        onFailure: (reason) => metrics.loginFailures.inc({ reason }),
        limits: {
          perUser: config.LATCHKEY_LOGIN_MAX_FAILURES,
          perAddress: config.LATCHKEY_LOGIN_MAX_FAILURES_PER_ADDRESS,
          window: config.LATCHKEY_LOGIN_WINDOW_SECONDS,
        },
      }),
    passwords: async () => {
      const { createPasswordHasher } = await import("./passwords.ts");
      return createPasswordHasher(config.LATCHKEY_ARGON2_CONCURRENCY);
    },
    issueToken: async () => {
      const { createTokenIssuer } = await import("../tokens.ts");
      return createTokenIssuer(configured(config.LATCHKEY_JWT_PRIVATE_KEY), {
        ...tokens,
        lifetime: config.LATCHKEY_JWT_LIFETIME_SECONDS,
      });
    },
    outbox: () => outbox,
    shipper: () => {
      const { push, queryRange } = configured(loki);
      const count = observeShipper(metrics.registry, () => configured(shipper).stats());
      shipper = createShipper({
        push,
        encode: pushBody,
        remove: outbox.remove,
        quarantine: outbox.quarantine,
        async isStored(tenantId, entry) {
          const found = await queryRange(tenantId, { ...entryQuery(entry), limit: 1, direction: "backward" });
          return found.length > 0;
        },
        observe(event) {
          count(event);
          const { tenantId: tenant } = { tenantId: undefined, ...event };
          if (event.type === "held")
            log.error({ tenant, status: event.status, text: event.text }, "tenant held");
          if (event.type === "quarantined") logQuarantine(event.entry, event.reason);
          if (event.type === "store_failed") log.error({ tenant, err: event.error }, event.operation);
        },
      });
      return { ...shipper, accept: inOrder(shipper.accept, outbox) };
    },
    relay: () => {
      const look = async () => {
        const [outboxes, letters] = await Promise.all([outbox.stats(), deadLetters.count()]);
        return { outboxes, deadLetters: letters };
      };
      observeBacklog(metrics.registry, look, config.AUDIT_OUTBOX_MAX_ENTRIES);
      return createRelay({
        outbox,
        newPublisher,
        onQuarantine: logQuarantine,
        onError: (task_id, err) => log.error({ task_id, err }, "relay"),
      });
    },
    deadLetters: () => {
      const count = observeDeadLetters(metrics.registry);
      return {
        keep: async (letter) => count(reasonClass(letter), await deadLetters.keep(letter)),
      };
    },
    expiries: () => ({ record: () => recordExpiries(store, trail.limit) }),
  };

  const needed = [...new Set(functions.flatMap((one) => one.needs))];
  const built = await Promise.all(needed.map(async (name) => [name, await factories[name]()] as const));
  const gate: Gate = {
    authenticator,
    refuse: createRefuse(execute),
    maxValueBytes: config.LATCHKEY_VALUE_MAX_BYTES,
    trustedProxies: config.LATCHKEY_TRUSTED_PROXIES,
  };
  return {
    services: Object.fromEntries(built) as unknown as Services,
    gate,
    /** Let deliveries that wait be settled now. @param deadline milliseconds */
    flush: (deadline: number) => shipper?.close(deadline),
    /** After the last request: publish what is held. @param deadline milliseconds */
    close: (deadline: number) => publisher?.close(deadline),
  };
}
