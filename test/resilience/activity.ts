/** What two tenants' programs do meanwhile: items are created, read and replaced, and every request is remembered. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Caller, Target } from "./target.ts";

/** A request and what became of it. Without an answer, or with 503, nobody knows whether it happened. */
export interface Sent {
  readonly tenant: string;
  readonly requestId: string;
  readonly action: "create_key" | "get_key" | "update_key";
  readonly key: string;
  /** Milliseconds since 1970. */
  readonly answeredAt: number;
  readonly outcome: "done" | "unknown";
  readonly value: string;
}

/** Seconds for which what was created stays. */
const TTL = 3_600;
/** Programs of each tenant. */
const WRITERS = 2;
/** Milliseconds between an unknown outcome and the next request. */
const PAUSE = 100;

export interface Activity {
  readonly sent: readonly Sent[];
  /** Answers that nothing explains: neither success nor 503. */
  readonly odd: readonly string[];
  stop(): Promise<void>;
}

/** @param run part of every request's id and every item's key  @param pause milliseconds after each request */
export function startActivity(target: Target, run: string, pause: number): Activity {
  const sent: Sent[] = [];
  const odd: string[] = [];
  const life = { isOver: false };
  let count = 0;

  async function attempt(
    { tenant, token }: Caller,
    action: Sent["action"],
    key: string,
  ): Promise<Sent["outcome"]> {
    count += 1;
    const requestId = `${run}-${count}`;
    const path = action === "create_key" ? "/data" : `/data/${key}`;
    const method = ({ create_key: "POST", get_key: "GET", update_key: "PUT" } as const)[action];
    const content = { value: requestId, ttl: TTL, ...(action === "create_key" ? { key } : {}) };
    const status = await target
      .request({ method, path, token, requestId, ...(action === "get_key" ? {} : { json: content }) })
      .then((answer) => answer.status)
      .catch(() => undefined);
    const outcome = status !== undefined && status < 300 ? "done" : "unknown";
    if (outcome === "unknown" && status !== undefined && ![502, 503, 504].includes(status))
      odd.push(`${requestId} (${method} ${path}) was answered ${status}`);
    sent.push({ tenant, requestId, action, key, answeredAt: Date.now(), outcome, value: requestId });
    if (outcome === "unknown") await sleep(PAUSE);
    return outcome;
  }

  async function write(caller: Caller, writer: number): Promise<void> {
    for (let item = 0; !life.isOver; item += 1) {
      const key = `${run}-${writer}-${item}`;
      if ((await attempt(caller, "create_key", key)) === "unknown") continue;
      await attempt(caller, "get_key", key);
      if (item % 2 === 0) await attempt(caller, "update_key", key);
      await sleep(pause);
    }
  }

  const writers = target.callers.flatMap((caller) =>
    Array.from({ length: WRITERS }, (_, writer) => write(caller, writer)),
  );
  return {
    sent,
    odd,
    async stop() {
      life.isOver = true;
      await Promise.all(writers);
    },
  };
}
