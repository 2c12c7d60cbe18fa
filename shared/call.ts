/** One request as the layers below see it: who says to be calling, what for, and how to trace it. */
import type { Route } from "./routes.ts";

/** Proof that a caller brings; whether it still counts is decided by the store, in the same step as the operation. */
export type Caller =
  | {
      readonly kind: "user";
      readonly tenantId: string;
      readonly userId: string;
      /** Grows when all tokens of a user are revoked; a token of an earlier epoch is refused. */
      readonly epoch: number;
    }
  | {
      readonly kind: "api_key";
      readonly tenantTag: string;
      readonly keyId: string;
      /** Keyed hashes of the key's text, one per pepper, the current pepper first. */
      readonly hashes: readonly KeyHash[];
    };

export interface KeyHash {
  readonly pepper: string;
  readonly hash: string;
}

/** A request that has been read as far as its headers. */
export interface RequestContext {
  readonly route: Route;
  readonly requestId: string;
  readonly traceparent?: string;
  readonly sourceIp?: string;
  /** Set by the store as soon as it knows: for the request log. */
  tenantId?: string;
}

/** A request with a credential. Each is carried out exactly once; `done` is set by the store with the attempt. */
export interface Call extends RequestContext {
  readonly caller: Caller;
  done?: true;
}
