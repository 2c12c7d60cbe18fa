/** Errors as the caller sees them: RFC 9457 problem details, one table of codes. */

/** `code -> [HTTP status, title]`. Codes are stable; clients may branch on them. */
export const problemTable = {
  malformed_request: [400, "The request is malformed"],
  conflicting_credentials: [400, "Two different credentials were sent"],
  unauthenticated: [401, "A credential is required"],
  invalid_token: [401, "The credential is not valid"],
  invalid_grant: [401, "The username or password is wrong"],
  insufficient_scope: [403, "The credential does not allow this"],
  not_found: [404, "There is no such resource"],
  method_not_allowed: [405, "The resource does not support this method"],
  already_exists: [409, "The resource exists already"],
  precondition_failed: [412, "The resource is not in the state that the request requires"],
  payload_too_large: [413, "The request is too large"],
  unsupported_media_type: [415, "The media type of the request is not supported"],
  validation_failed: [422, "The request is not valid"],
  too_many_attempts: [429, "Too many failed attempts"],
  internal_error: [500, "Something went wrong on our side"],
  overloaded: [503, "The service is busy"],
  audit_unavailable: [503, "The audit trail cannot take more entries"],
  store_unavailable: [503, "The store cannot serve this now"],
  outcome_unknown: [503, "It is not known whether this happened"],
  not_replicated: [503, "This is not safe from a failure yet"],
  // Of the gateway alone.
  function_unavailable: [503, "The function did not answer"],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type ProblemCode = keyof typeof problemTable;

/** The members that all problems of a code have in common, whoever answers them. */
export function kindOf(code: ProblemCode) {
  const [status, title] = problemTable[code];
  return { type: `urn:latchkey:problem:${code.replaceAll("_", "-")}`, title, status };
}

/** Where in the request something is wrong: JSON Pointer into the body, or the name of a parameter or header. */
export type FieldLocation = { pointer: string } | { parameter: string } | { header: string };
export type FieldError = FieldLocation & { detail: string };

interface ProblemExtras {
  /** Sentence for this occurrence. Never contains anything secret or internal. */
  readonly detail?: string;
  readonly errors?: readonly FieldError[];
  readonly headers?: Readonly<Record<string, string>>;
  /** Why it really happened: for logs only, never answered. */
  readonly cause?: unknown;
}

/** An answer other than success, thrown anywhere below `defineFunction`. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly status: number;
  readonly errors: readonly FieldError[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly detail: string | undefined;

  constructor(code: ProblemCode, { detail, errors, headers = {}, cause }: ProblemExtras = {}) {
    const [status, title] = problemTable[code];
    super(title, { cause });
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.errors = errors;
    this.headers = { ...defaultHeaders(code, status), ...headers };
  }

  /** The `application/problem+json` answer (RFC 9457, 3). `instance` names the request, not a stored thing. */
  toResponse(instance: string, requestId: string): Response {
    const body = {
      ...kindOf(this.code),
      ...(this.detail === undefined ? {} : { detail: this.detail }),
      instance,
      code: this.code,
      request_id: requestId,
      ...(this.errors === undefined ? {} : { errors: this.errors }),
    };
    return new Response(JSON.stringify(body), {
      status: this.status,
      headers: {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "X-Request-Id": requestId,
        ...this.headers,
      },
    });
  }
}

/** RFC 6750, 3: a challenge on every 401, with `error` only when a credential was sent. RFC 9110, 10.2.3: Retry-After. */
function defaultHeaders(code: ProblemCode, status: number): Record<string, string> {
  if (code === "invalid_token")
    return { "WWW-Authenticate": 'Bearer realm="latchkey", error="invalid_token"' };
  if (status === 401) return { "WWW-Authenticate": 'Bearer realm="latchkey"' };
  if (status === 503) return { "Retry-After": "1" };
  return {};
}

/** 403 of RFC 6750, 3.1, naming the scope that would have been enough. */
export const insufficientScope = (scope: string): Problem =>
  new Problem("insufficient_scope", {
    detail:
      scope === "" ? "This endpoint is for people, not for API keys." : `This needs the permission ${scope}.`,
    headers: {
      "WWW-Authenticate": `Bearer realm="latchkey", error="insufficient_scope"${scope === "" ? "" : `, scope="${scope}"`}`,
    },
  });
