/** How the pods of a function are to be cut, and how many there may be: hints for the route table. Data only. */

export interface Scaling {
  /** Requests that a pod takes at once; what is beyond waits in front of it. */
  readonly concurrency: number;
  /** Pods at most. Each holds a connection to Redis. */
  readonly maxPods: number;
  /**
   * Seconds that a request may take; also the grace period of a pod that ends: Knative holds SIGTERM back for 30 s of it,
   * and the process takes up to LATCHKEY_SHUTDOWN_SECONDS after that.
   */
  readonly timeoutSeconds: number;
  /** Seconds for which the last pod stays when nobody calls any more. */
  readonly idleSeconds: number;
  /** CPU to reserve, in thousandths of a core. No limit: one of 200 made starts two to three times slower. */
  readonly cpuMillicores: number;
  /** Memory to reserve, and the limit, in MiB. */
  readonly memoryMiB: number;
  readonly memoryLimitMiB: number;
}

/** One round trip to Redis. Idle 83 MiB; 80 requests at once with the largest item each: 250 MiB. */
export const quick: Scaling = {
  concurrency: 80,
  maxPods: 20,
  timeoutSeconds: 60,
  idleSeconds: 300,
  cpuMillicores: 25,
  memoryMiB: 96,
  memoryLimitMiB: 384,
};

/**
 * Password hashes: LATCHKEY_ARGON2_CONCURRENCY (2) at once with 19 MiB and about 30 ms of a core each; 135 MiB in all. A
 * few that wait keep them busy; more would only wait longer, and are better off in another pod.
 */
export const hashing: Scaling = {
  ...quick,
  concurrency: 8,
  cpuMillicores: 100,
  memoryMiB: 128,
  memoryLimitMiB: 256,
};

/** Pages of the audit trail out of Redis and Loki: seldom, and each up to some MiB. */
export const reading: Scaling = { ...quick, concurrency: 20, maxPods: 5 };

/** Proofs that a trail is whole: 50,000 numbers each, out of ten answers of Loki of some MiB. 8 at once: 520 MiB; 20: 660. */
export const proving: Scaling = { ...reading, concurrency: 8, memoryLimitMiB: 768 };

/**
 * A delivery is an open request until Loki has its entries. Many in few pods, so that they share batches; a pod holds up to
 * 64 MB of entries, which take twice their bytes. A request may take longer than the Trigger waits for it.
 */
export const shipping: Scaling = {
  concurrency: 500,
  maxPods: 3,
  timeoutSeconds: 90,
  idleSeconds: 300,
  cpuMillicores: 50,
  memoryMiB: 128,
  memoryLimitMiB: 512,
};

/**
 * Called by a clock every minute, or when something has gone wrong. With a clock there is always a pod, whatever `idleSeconds`
 * says: the autoscaler looks at a whole minute (stable-window). That is wanted: what Prometheus knows of the outboxes it has
 * from audit-relay.
 */
export const background: Scaling = {
  ...quick,
  concurrency: 10,
  maxPods: 2,
  idleSeconds: 120,
  memoryLimitMiB: 256,
};
