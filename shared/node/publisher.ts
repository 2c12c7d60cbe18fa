/**
 * Publishes audit entries as CloudEvents, after the answer and off the request path. Nothing here is tried twice and
 * nothing is kept for long: every entry is in its outbox until Loki has it, and what is left here the relay publishes.
 */
import type { AuditEntry } from "../audit.ts";
import {
  type Bundle,
  bundleKey,
  collect,
  dataBudget,
  type EventOverrides,
  encodeEntry,
  seal,
} from "../events.ts";
import { encodeEvent } from "./cloud-events.ts";
import { createSender, type Send } from "./sender.ts";

/**
 * Why entries are left to the relay: the queue was `full`, the sink refused them or was not reached (`failed`), it did
 * not answer in time (`timeout`, it may have them nevertheless), or the process ends (`stopped`).
 */
type LeftReason = "full" | "failed" | "timeout" | "stopped";

/** For metrics. Must not throw. */
export interface PublisherObserver {
  published(entries: number): void;
  left(reason: LeftReason, entries: number): void;
  /** One POST and how it ended: the status, or why there was none. */
  posted(status: number | Exclude<LeftReason, "full">, seconds: number): void;
}

const publisherLimits = {
  /** How long an entry waits for others of its tenant and action; longer only while all POSTs are in flight. */
  lingerMs: 100,
  /** Of entries that are collected, wait or are in flight: half a second of one busy core. */
  maxEntries: 10_000,
  /** The same in bytes of JSON, so that large entries cannot fill the pod's memory. */
  maxBytes: 8 * 1024 * 1024,
  /**
   * A broker that answers in 10 ms takes 4 * 64 KiB / 10 ms = 25 MiB/s, more than a core makes; a slow one is not
   * drowned by hundreds of pods, and gets fuller events instead of more of them.
   */
  inFlight: 4,
  /** Above what a healthy broker needs, its restart included; a POST that hangs holds one of the four places. */
  timeoutMs: 10_000,
};

export interface Clock {
  /** Milliseconds that only grow. */
  now(): number;
  /** Call back after so many milliseconds. @returns what takes it back */
  after(milliseconds: number, callback: () => void): () => void;
}

const systemClock: Clock = {
  now: () => performance.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
};

export interface PublisherOptions {
  /** K_SINK. */
  readonly sink: string;
  /** `/functions/<id>`. */
  readonly source: string;
  readonly overrides?: EventOverrides;
  readonly observe: PublisherObserver;
  /** In place of one that reaches the sink. */
  readonly send?: Send;
  readonly clock?: Clock;
  readonly limits?: Partial<typeof publisherLimits>;
}

export interface Publisher {
  /** Never waits, never throws. After `close` the entry is left. */
  publish(entry: AuditEntry): void;
  /**
   * Send what is held at once, and give up on the rest after so many milliseconds.
   * @returns whether every entry was settled in time. By then each has been observed as published or left
   */
  close(deadlineMs: number): Promise<boolean>;
}

/** A POST that can be called off. */
interface Way {
  isCut: boolean;
  cancel: () => void;
}

/** Each entry that is published is observed exactly once, as published or as left. */
export function createPublisher(options: PublisherOptions): Publisher {
  const { sink, source, overrides = {}, observe, clock = systemClock } = options;
  const limits = { ...publisherLimits, ...options.limits };
  const sender = createSender(sink, limits.inFlight);
  const { send = sender.send } = options;
  const budget = dataBudget(source, overrides);

  /** Bundles that still take entries, and complete ones; both with the oldest first. */
  const open = new Map<string, Bundle>();
  const complete: Bundle[] = [];
  const held = { entries: 0, bytes: 0 };
  const cutOffs = new Set<(reason: "timeout" | "stopped") => void>();
  let wake: { at: number; cancel: () => void } | undefined;
  let closed: Promise<boolean> | undefined;
  let onEmpty = () => {};

  /** Work is done in a timer, never in `publish`. */
  function wakeAt(time: number): void {
    if (wake !== undefined && wake.at <= time) return;
    wake?.cancel();
    const cancel = clock.after(Math.max(0, time - clock.now()), () => {
      wake = undefined;
      sendDue();
    });
    wake = { at: time, cancel };
  }

  function sendDue(): void {
    while (cutOffs.size < limits.inFlight) {
      const bundle = takeDue();
      if (bundle === undefined) break;
      void dispatch(bundle);
    }
    const next = oldestOf(open);
    // With all places taken, the next answer comes here again.
    if (next !== undefined && cutOffs.size < limits.inFlight) wakeAt(next.since + limits.lingerMs);
  }

  /** Oldest first, whether complete or lingering for long enough: a busy tenant does not hold up the others. */
  function takeDue(): Bundle | undefined {
    const lingering = oldestOf(open);
    const [ready] = complete;
    const isDue =
      lingering !== undefined &&
      (closed !== undefined || lingering.since + limits.lingerMs <= clock.now()) &&
      (ready === undefined || lingering.since < ready.since);
    if (!isDue) return complete.shift();
    open.delete(bundleKey(lingering));
    return lingering;
  }

  /** Never rejects. */
  async function dispatch(bundle: Bundle): Promise<void> {
    const started = clock.now();
    const way: Way = { isCut: false, cancel: () => {} };
    let cutOff: (reason: "timeout" | "stopped") => void = () => {};
    // Raced: whoever cannot be called off must not hold a place.
    const cut = new Promise<"timeout" | "stopped">((resolve) => {
      cutOff = (reason) => {
        resolve(reason);
        way.isCut = true;
        way.cancel();
      };
    });
    cutOffs.add(cutOff);
    const cancelTimeout = clock.after(limits.timeoutMs, () => cutOff("timeout"));
    const result = await Promise.race([post(bundle, way).catch(() => "failed" as const), cut]);
    cancelTimeout();
    cutOffs.delete(cutOff);

    observe.posted(result, (clock.now() - started) / 1000);
    if (typeof result === "number" && result >= 200 && result < 300) observe.published(bundle.texts.length);
    else observe.left(typeof result === "number" ? "failed" : result, bundle.texts.length);
    release(bundle);
    sendDue();
  }

  async function post(bundle: Bundle, way: Way): Promise<number> {
    const { headers, body } = await encodeEvent(seal(source, bundle, overrides));
    if (way.isCut) throw new Error("cut off");
    const { answered, cancel } = send(headers, body);
    way.cancel = cancel;
    return answered;
  }

  function release(bundle: Bundle): void {
    held.entries -= bundle.texts.length;
    held.bytes -= bundle.bytes;
    if (held.entries === 0) onEmpty();
  }

  function giveUp(): void {
    for (const bundle of [...complete.splice(0), ...open.values()]) {
      observe.left("stopped", bundle.texts.length);
      release(bundle);
    }
    open.clear();
    for (const cutOff of cutOffs) cutOff("stopped");
  }

  return {
    publish(entry) {
      if (closed !== undefined) return observe.left("stopped", 1);
      if (held.entries >= limits.maxEntries) return observe.left("full", 1);
      const encoded = encodeEntry(entry);
      if (held.bytes + encoded.bytes > limits.maxBytes) return observe.left("full", 1);
      const now = clock.now();
      const full = collect(open, encoded, budget, now);
      held.entries += 1;
      held.bytes += encoded.bytes;
      if (full !== undefined) complete.push(full);
      if (cutOffs.size < limits.inFlight) wakeAt(full === undefined ? now + limits.lingerMs : now);
    },

    close(deadlineMs) {
      closed ??= new Promise((resolve) => {
        let inTime = true;
        const cancel = clock.after(deadlineMs, () => {
          inTime = false;
          giveUp();
        });
        onEmpty = () => {
          cancel();
          wake?.cancel();
          sender.close();
          resolve(inTime);
        };
      });
      if (held.entries === 0) onEmpty();
      else sendDue();
      return closed;
    },
  };
}

const oldestOf = (bundles: ReadonlyMap<string, Bundle>): Bundle | undefined => bundles.values().next().value;
