/** What the resilience run needs of an installation, wherever it is. */
import type { AuditEntry } from "../../shared/audit.ts";

/** What is killed: the function that creates items, the Redis that takes writes, and what brings entries to Loki. */
export const victims = ["function", "redis-master", "shipper"] as const;
export type Victim = (typeof victims)[number];

/** An admin of a tenant. */
export interface Caller {
  readonly tenant: string;
  readonly token: string;
}

interface Outgoing {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly token: string;
  readonly requestId: string;
  readonly json?: unknown;
}

export interface Target {
  /** What it is, for the report. */
  readonly name: string;
  /** Of two tenants. */
  readonly callers: readonly Caller[];
  /** @throws when there is no answer */
  request(request: Outgoing): Promise<{ readonly status: number; readonly body: unknown }>;
  /** With SIGKILL, or as abruptly as it can be done from outside. @returns what it was */
  kill(victim: Victim): Promise<string>;
  /** Lines that Loki has of a tenant since then, each as often as it has it. Those that are no entries are undefined. */
  lines(tenant: string, since: Date): Promise<(AuditEntry | undefined)[]>;
  close(): Promise<void>;
}
