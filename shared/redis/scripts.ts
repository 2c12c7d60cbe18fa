/** The Lua scripts: each is its own file behind the files it shares, put together once per process. */
import { createHash } from "node:crypto";
import { readLua } from "./lua-files.ts";

const audited = ["outbox"] as const;
const operation = ["outbox", "operation"] as const;
const itemOperation = ["outbox", "operation", "item"] as const;
const settling = ["fields", "settle"] as const;

/** What each script stands on, in order. */
const libraries = {
  "accept-request": operation,
  "create-api-key": operation,
  "create-item": ["outbox", "expiry", "operation", "item"],
  "create-tenant": audited,
  "delete-api-key": operation,
  "delete-item": itemOperation,
  "expire-item": ["outbox", "expiry"],
  "get-item": operation,
  "get-user": operation,
  "keep-dead-letter": [],
  "limit-login": [],
  "list-api-keys": operation,
  "list-audit": operation,
  "quarantine-entry": settling,
  "record-login": audited,
  "refuse-request": operation,
  "remove-entries": settling,
  "update-item": itemOperation,
  "verify-audit": ["fields", "outbox", "operation"],
} as const satisfies Record<string, readonly string[]>;

export type ScriptName = keyof typeof libraries;
export const scriptNames = Object.keys(libraries) as ScriptName[];

/** May run twice: the second time finds nothing left to do. */
const repeatable: ReadonlySet<ScriptName> = new Set(["remove-entries"]);
/** Losing what these did does no harm: counters of failures, and entries that Loki has. */
const unconfirmed: ReadonlySet<ScriptName> = new Set(["limit-login", "remove-entries"]);

export interface Script {
  readonly text: string;
  /** Name under which Redis caches the text (EVALSHA). */
  readonly sha1: string;
  readonly repeatable: boolean;
  /** Whether replicas must have what it did before anybody is told. */
  readonly confirmed: boolean;
}

const loaded = new Map<ScriptName, Script>();

export function loadScript(name: ScriptName): Script {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const files = [...libraries[name].map((library) => `lib/${library}`), name];
  const text = files.map(readLua).join("\n");
  const script = {
    text,
    sha1: createHash("sha1").update(text).digest("hex"),
    repeatable: repeatable.has(name),
    confirmed: !unconfirmed.has(name),
  };
  loaded.set(name, script);
  return script;
}
