/**
 * `defineFunction` does once for every endpoint what every endpoint needs: request id, authentication, parsing,
 * refusing, the reply's schema and problem+json. A function file holds what is left: its question and its answer.
 */
import type { Context } from "hono";
import type { z } from "zod";
import { sourceAddress, type TrustedProxies } from "./address.ts";
import type { ApiKeyStore } from "./api-keys.ts";
import type { AuditStore } from "./audit.ts";
import { type Authenticator, authenticate } from "./authenticate.ts";
import type { Call, RequestContext } from "./call.ts";
import type { DeadLetter } from "./dead-letter.ts";
import type { ItemStore } from "./items.ts";
import type { Outbox } from "./outbox.ts";
import type { PasswordHasher } from "./passwords.ts";
import { Problem } from "./problems.ts";
import type { Relay } from "./relay.ts";
import { type ParsedRequest, parseRequest, type RequestSchema } from "./request.ts";
import { type Endpoint, type Route, type RouteId, routeOf, type routes } from "./routes.ts";
import type { Shipper } from "./shipper.ts";
import type { TokenIssuer } from "./tokens.ts";
import type { LoginStore, UserStore } from "./users.ts";

/** Everything that a function can ask for. Each is built only in a process whose functions need it. */
export interface Services {
  readonly items: ItemStore;
  readonly apiKeys: ApiKeyStore;
  readonly users: UserStore;
  readonly audit: AuditStore;
  readonly logins: LoginStore;
  readonly passwords: PasswordHasher;
  readonly issueToken: TokenIssuer;
  readonly outbox: Outbox;
  readonly shipper: Shipper;
  readonly relay: Relay;
  readonly expiries: { record(): Promise<unknown> };
  readonly deadLetters: { keep(letter: DeadLetter): Promise<unknown> };
}

/** What defineFunction itself needs. */
export interface Gate {
  readonly authenticator: Authenticator;
  /**
   * Authenticate and authorize a call that will not be carried out, and leave its audit entry. It returns when the
   * caller would have been allowed, so that a stranger learns nothing from how a request is wrong.
   * @throws {Problem} what an unauthorized caller is to be told instead
   */
  readonly refuse: (call: Call, problem: Problem) => Promise<void>;
  readonly maxValueBytes: number;
  /** How many proxies in front append to X-Forwarded-For; 0: believe the socket alone. */
  readonly trustedProxies: TrustedProxies;
}

interface Definition<Needs extends keyof Services, S extends RequestSchema, R extends z.ZodType> {
  readonly needs: readonly Needs[];
  readonly request: S;
  /** A field that it does not name cannot leave; absent: the answer has no body. */
  readonly reply?: R;
}

interface Reply<Body> {
  readonly status: 200 | 201 | 202 | 204 | 304;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Body;
}

/** Public routes are handled without a caller; the route table says which they are. */
type CallOf<Id extends RouteId> = Extract<(typeof routes)[number], { id: Id }>["credential"] extends "none"
  ? RequestContext
  : Call;

type Handler<
  Id extends RouteId,
  Needs extends keyof Services,
  S extends RequestSchema,
  R extends z.ZodType,
> = (
  request: ParsedRequest<S>,
  call: CallOf<Id>,
  services: Pick<Services, Needs>,
  limits: Pick<Gate, "maxValueBytes">,
) => Promise<Reply<z.input<R>>>;

/** What an application is made of. */
export interface Servable {
  readonly route: Endpoint;
  readonly needs: readonly (keyof Services)[];
  handle(context: Context<FunctionEnv>, services: Services, gate: Gate): Promise<Response>;
}

export interface LatchkeyFunction extends Servable {
  readonly route: Route;
  readonly request: RequestSchema;
  readonly reply: z.ZodType | undefined;
}

/** What the request log and the metrics read after an answer. */
export interface FunctionEnv {
  Variables: { requestId: string; url: URL; call: { readonly route: Endpoint; tenantId?: string } };
  /** As @hono/node-server passes it; absent in other runtimes. */
  Bindings: { incoming?: { url?: string; socket?: { remoteAddress?: string } } };
}

/** What a body may have in bytes, besides an item's value. */
const ENVELOPE_BYTES = 32 * 1024;

/** Define an endpoint. Method, path, credential and permission come from the route table. */
export function defineFunction<
  Id extends RouteId,
  Needs extends keyof Services,
  S extends RequestSchema,
  R extends z.ZodType,
>(
  id: Id,
  { needs, request, reply }: Definition<Needs, S, R>,
  handler: Handler<Id, Needs, S, R>,
): LatchkeyFunction {
  const route = routeOf(id);

  return {
    route,
    needs,
    request,
    reply,
    async handle(c, services, gate) {
      const context = contextOf(c, route, gate.trustedProxies);
      c.set("call", context);
      const call = route.credential === "none" ? undefined : await callOf(c, context, gate.authenticator);
      try {
        const maxBodyBytes = ENVELOPE_BYTES + (request.holdsValue ? gate.maxValueBytes : 0);
        const parsed = await parseRequest(c.req, c.get("url"), route.path, request, maxBodyBytes);
        const answer = await handler(parsed, (call ?? context) as CallOf<Id>, services, gate);
        return respond(context.requestId, reply, answer);
      } catch (error) {
        // Nothing was done yet: whether this caller may know what is wrong is decided like any other operation.
        if (error instanceof Problem && call !== undefined && !call.done) await gate.refuse(call, error);
        throw error;
      }
    },
  };
}

async function callOf(
  c: Context<FunctionEnv>,
  context: RequestContext,
  authenticator: Authenticator,
): Promise<Call> {
  const caller = await authenticate(c.req.header("authorization"), c.req.header("x-api-key"), authenticator);
  const call: Call = { ...context, caller };
  c.set("call", call);
  return call;
}

function contextOf(c: Context<FunctionEnv>, route: Route, trustedProxies: TrustedProxies): RequestContext {
  const traceparent = c.req.header("traceparent");
  const sourceIp = sourceAddress(
    c.env?.incoming?.socket?.remoteAddress,
    c.req.header("x-forwarded-for"),
    trustedProxies,
  );
  return {
    route,
    requestId: c.get("requestId"),
    ...(traceparent !== undefined && TRACEPARENT.test(traceparent) ? { traceparent } : {}),
    ...(sourceIp === undefined ? {} : { sourceIp }),
  };
}

/** W3C Trace Context, 3.2: version 00. */
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

function respond<R extends z.ZodType>(
  requestId: string,
  schema: R | undefined,
  reply: Reply<z.input<R>>,
): Response {
  const headers = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Request-Id": requestId,
    ...reply.headers,
  };
  if (schema === undefined || reply.body === undefined)
    return new Response(null, { status: reply.status, headers });
  const body = JSON.stringify(schema.parse(reply.body));
  return new Response(body, {
    status: reply.status,
    headers: { "Content-Type": "application/json", ...headers },
  });
}

/** Whether people and programs can call it; else only Knative Eventing does. */
export const hasPublicRoute = (one: Servable): boolean => "credential" in one.route;

/** The schemas of functions that can hold marked secrets; events have none. */
export const schemasOf = (functions: readonly (Servable | LatchkeyFunction)[]): z.ZodObject[] =>
  functions
    .flatMap((one) => ("request" in one ? [one.request.body, one.reply] : []))
    .filter((schema) => schema !== undefined) as z.ZodObject[];
