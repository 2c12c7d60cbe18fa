import { expect, test } from "vitest";
import * as z from "zod";
import { environment } from "../../shared/config.ts";
import { schemasOf } from "../../shared/function.ts";
import { loadPublicFunctions } from "../../shared/node/functions.ts";
import { createLog } from "../../shared/node/log.ts";
import { Problem } from "../../shared/problems.ts";
import { secret, secretFields } from "../../shared/secrets.ts";

/** Every field that carries a secret, by where it is declared. Who adds one adds it here, and thinks of who sees it. */
const SECRET = {
  environment: [
    "REDIS_URL",
    "REDIS_PASSWORD",
    "REDIS_SENTINEL_PASSWORD",
    "LATCHKEY_JWT_PRIVATE_KEY",
    "LATCHKEY_API_KEY_PEPPERS",
  ],
  "token-issue": ["password", "access_token"],
  "api-keys-create": ["key_value"],
};
const FIELDS = Object.values(SECRET).flat();
/** Fields whose names speak of secrets although they hold none. */
const HARMLESS = ["token_type", "LATCHKEY_JWT_PUBLIC_KEYS"];
const VALUE = "s3cr3t-v4lu3";

const functions = await loadPublicFunctions();
const schemas = schemasOf(functions);

/** What a log of this process writes while `write` runs, line by line. */
function linesOf(write: (log: ReturnType<typeof createLog>) => void): string[] {
  const lines: string[] = [];
  write(createLog("debug", schemas, { write: (line) => void lines.push(line) }));
  return lines;
}
/** `content` inside `levels` objects. */
const nested = (content: unknown, levels: number): unknown =>
  levels === 0 ? content : { inside: nested(content, levels - 1), beside: levels };
const leaking = (lines: string[]): string[] => lines.filter((line) => line.includes(VALUE));

/** Names of all fields of a schema, at every depth. */
function namesIn(schema: z.ZodType): string[] {
  const names = new Set<string>();
  JSON.stringify(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }), (key, value: unknown) => {
    if (key === "properties") for (const name of Object.keys(value as object)) names.add(name);
    return value;
  });
  return [...names];
}

/** As ioredis makes it: the command that failed, with its arguments, hangs on the error. */
const redisError = (message = "READONLY You can't write") =>
  Object.assign(new Error(message), {
    name: "ReplyError",
    command: { name: "evalsha", args: ["sha", "1", `{s1}:x ${VALUE}`] },
    password: VALUE,
    previousErrors: [{ command: { args: [VALUE] } }],
  });

test("the fields that carry secrets, over all functions and the environment, are exactly these", () => {
  const marked = functions.map((one) => [one.route.id, schemasOf([one]).flatMap(secretFields)] as const);
  const all = [["environment", secretFields(environment)] as const, ...marked];
  expect(Object.fromEntries(all.filter(([, fields]) => fields.length > 0))).toEqual(SECRET);
  expect(functions.length).toBeGreaterThanOrEqual(10);
});

test("a field whose name speaks of a secret is marked as one, at any depth", () => {
  const telling = /password|secret|token|private|pepper|credential|hash|jwt.*key|^key_value$|redis_url/i;
  const names = [environment, ...schemas].flatMap(namesIn).filter((name) => telling.test(name));
  expect([...new Set(names)].sort()).toEqual([...FIELDS, ...HARMLESS].sort());
});

test("no secret travels in a path, a query or a header that is declared: those end up in the logs of others", () => {
  const parts = functions.flatMap(({ request }) => [request.params, request.query, request.headers]);
  const declared = parts.filter((part) => part !== undefined);
  expect(declared.length).toBeGreaterThan(5);
  expect(declared.flatMap(secretFields)).toEqual([]);
  expect(declared.flatMap(namesIn).filter((name) => FIELDS.includes(name))).toEqual([]);
});

test("a mark stays on a field that is made optional, gets a default, a check or a description", () => {
  const marked = {
    plain: secret(z.string()),
    optional: secret(z.string()).optional(),
    nullable: secret(z.string()).nullable(),
    nullish: secret(z.string()).nullish().default(null),
    byDefault: secret(z.string()).default("x"),
    described: secret(z.string()).describe("x"),
    checked: secret(z.string()).min(1).max(9),
    refined: secret(z.string()).refine((text) => text !== "x"),
    all: secret(z.string()).min(1).optional().describe("x").nullable().describe("y"),
  };
  const schema = z.object({ ...marked, other: z.string(), described2: z.string().describe("x").optional() });
  expect(secretFields(schema)).toEqual(Object.keys(marked));
  expect(secretFields(schema.extend({ more: z.string() }))).toEqual(Object.keys(marked));
});

test.each(FIELDS)("the log never shows %s, on its own or inside one or two objects or a list", (field) => {
  const lines = linesOf((log) => {
    for (const levels of [0, 1, 2]) {
      log.info(nested({ [field]: VALUE, kept: "yes" }, levels));
      log.error(nested({ [field]: { deep: [VALUE] }, kept: "yes" }, levels), "a message");
    }
    log.info({ list: [{ kept: "yes" }, { [field]: VALUE }] });
    log.child({ [field]: VALUE }).info({ kept: "yes" });
    log.child({ inside: { [field]: VALUE } }).warn({ kept: "yes" });
  });
  expect(lines).toHaveLength(9);
  expect(lines.filter((line) => !line.includes('"kept":"yes"') || !line.includes(field))).toEqual([]);
  expect(leaking(lines)).toEqual([]);
});

test("the log shows no secret field that stands deeper in a line either", () => {
  // The promise is the one of log.ts: never written, wherever in a log line they stand.
  for (const levels of [3, 4, 8]) {
    const lines = linesOf((log) =>
      log.info(nested(Object.fromEntries(FIELDS.map((one) => [one, VALUE])), levels)),
    );
    expect([levels, lines.length, leaking(lines).length]).toEqual([levels, 1, 0]);
  }
  expect(leaking(linesOf((log) => log.info({ lists: [[{ password: VALUE }]] })))).toEqual([]);
});

test("an error is logged with its type, message, stack and causes, and with nothing that a library hung on it", () => {
  const wrapped = new Error("outer", { cause: new Error("middle", { cause: redisError("inner") }) });
  const problem = new Problem("store_unavailable", { cause: redisError("inner") });
  const lines = linesOf((log) => {
    for (const error of [redisError("inner"), wrapped, problem]) {
      log.error(error);
      log.error({ err: error }, "redis connection");
      log.child({ err: error }).warn("child");
    }
  });
  expect(lines).toHaveLength(9);
  expect(
    lines.filter((line) => !line.includes('"message":"inner"') || !line.includes("secrets.test.ts")),
  ).toEqual([]);
  expect(JSON.parse(lines[0] as string).err).toEqual({
    type: "ReplyError",
    message: "inner",
    stack: expect.stringContaining("inner"),
  });
  expect(lines.filter((line) => line.includes("command") || line.includes("previousErrors"))).toEqual([]);
  expect(leaking(lines)).toEqual([]);
});

test("an error shows nothing else under another name either, in a list, or deeper in a line", () => {
  const error = redisError();
  const lines = linesOf((log) => {
    log.error({ code: "store_unavailable", reason: error });
    for (const levels of [0, 1, 3]) log.error(nested({ error, kept: "yes" }, levels));
    log.error({ errors: [error, { failure: error }] }, "a message");
  });
  expect(lines).toHaveLength(5);
  expect(leaking(lines)).toEqual([]);
});

test("a cause that is no error shows no secret field, however far down the causes it is", () => {
  const cause = { password: VALUE, request: { key_value: VALUE, list: [{ access_token: VALUE }] } };
  const lines = linesOf((log) => {
    log.error(new Error("outer", { cause }));
    log.error({ err: new Error("outer", { cause: new Error("inner", { cause }) }) });
    log.error({ reason: new Problem("internal_error", { cause }) });
  });
  expect(lines).toHaveLength(3);
  expect(leaking(lines)).toEqual([]);
});

test("an error that is its own cause, directly or by way of another, can be logged", () => {
  const one = new Error("one");
  one.cause = new Error("two", { cause: one });
  const self = new Error("self");
  self.cause = self;
  const lines = linesOf((log) => {
    log.error(one);
    log.error({ reason: self });
  });
  expect(lines.map((line) => /"(one|self)"/.test(line))).toEqual([true, true]);
});
