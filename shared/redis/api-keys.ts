/** API keys in Redis: fields `<key id>.<property>` of one hash per tenant, and an index in order of creation. */
import { type ApiKey, hintOf, newApiKey, prefixOf } from "../api-key.ts";
import type { ApiKeySettings, ApiKeyStore, ApiKeyView } from "../api-keys.ts";
import type { Caller, KeyHash } from "../call.ts";
import type { KeyScope } from "../permissions.ts";
import type { Execute } from "./execute.ts";
import { type TenantKeys, tenantTag } from "./keys.ts";
import { fieldsOf, toTime, toTimeOrNull } from "./replies.ts";

/** Every property of a record: what a deletion removes. */
const PROPERTIES = [
  ...["name", "env", "hint", "hash", "pepper", "scopes", "disabled"],
  ...["created_at", "username", "last_used", "expires_at", "denied_since", "denied_count"],
];

/** Milliseconds for which the use of a deleted key is still recognised as that: 30 days. */
const DELETED_KEY_KEPT = 30 * 24 * 3600 * 1000;

interface Options {
  readonly hashKey: (text: string) => KeyHash[];
  readonly keyEnv: string;
}

export function createApiKeyStore(execute: Execute, { hashKey, keyEnv }: Options): ApiKeyStore {
  return {
    async create(call, settings) {
      const key = newApiKey(keyEnv, tagOf(call.caller));
      const record = recordOf(key, settings, hashKey(key.text)[0] as KeyHash);
      const reply = await execute(call, {
        script: "create-api-key",
        keys: recordKeys,
        args: [key.keyId, ...Object.entries(record).flat()],
        target: key.keyId,
        details: {
          name: settings.name,
          scopes: settings.scopes,
          ...(settings.expires_at === null ? {} : { expires_at: settings.expires_at }),
        },
        alsoNeeds: settings.scopes,
      });
      const [created_at, username] = fieldsOf(reply);
      return { view: viewOf(key.keyId, { ...record, created_at, username, last_used: "" }), key };
    },

    async list(call, { limit, cursor }) {
      const reply = await execute(call, {
        script: "list-api-keys",
        keys: recordKeys,
        args: [cursor ?? "+inf", String(limit + 1)],
      });
      const rows = (reply as unknown[]).map(fieldsOf);
      const keys = rows.slice(0, limit).map(([, id = "", name, env, hint, scopes, disabled, ...rest]) => {
        const [created_at, username, last_used, expires_at] = rest;
        return viewOf(id, { name, env, hint, scopes, disabled, created_at, username, last_used, expires_at });
      });
      return { keys, next: rows.length > limit ? (rows[limit - 1]?.[0] ?? null) : null };
    },

    async delete(call, keyId) {
      await execute(call, {
        script: "delete-api-key",
        keys: (tenant) => [...recordKeys(tenant), tenant.deletedApiKey(keyId)],
        args: [keyId, String(DELETED_KEY_KEPT), ...PROPERTIES],
        target: keyId,
      });
    },
  };
}

const recordKeys = (tenant: TenantKeys): string[] => [tenant.apiKeys, tenant.apiKeyIndex];

const tagOf = (caller: Caller): string =>
  caller.kind === "user" ? tenantTag(caller.tenantId) : caller.tenantTag;

const recordOf = (key: ApiKey, settings: ApiKeySettings, { pepper, hash }: KeyHash) => ({
  name: settings.name,
  env: key.env,
  hint: hintOf(key),
  hash,
  pepper,
  scopes: settings.scopes.join(" "),
  disabled: settings.enabled ? "" : "1",
  expires_at: settings.expires_at === null ? "" : String(Date.parse(settings.expires_at)),
});

const viewOf = (keyId: string, record: Record<string, string | undefined>): ApiKeyView => ({
  key_id: keyId,
  name: record["name"] ?? "",
  prefix: prefixOf(record["env"] ?? ""),
  hint: record["hint"] ?? "",
  scopes: (record["scopes"] ?? "").split(" ") as KeyScope[],
  enabled: record["disabled"] !== "1",
  created_at: toTime(record["created_at"]),
  created_by: record["username"] ?? "",
  last_used: toTimeOrNull(record["last_used"]),
  expires_at: toTimeOrNull(record["expires_at"]),
});
