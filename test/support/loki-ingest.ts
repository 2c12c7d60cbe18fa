/** Writing side of the Loki double: what a push is checked for, in Loki's order and words, and what of it is stored. */
import {
  bytes,
  cleaned,
  LokiRefusal,
  labelError,
  nameOf,
  type PushRequest,
  parsePush,
  sizeOf,
} from "./loki-push.ts";
import type { StoredEntry, Stream } from "./loki-query.ts";

/** The part of Loki's per-tenant overrides that the double knows. */
export interface TenantLimits {
  /** RFC 3339. Pushes before are answered 260 and not stored. */
  readonly block_ingestion_until?: string;
  readonly ingestion_rate_mb?: number;
  readonly ingestion_burst_size_mb?: number;
}

// As in k8s/loki/loki.yaml, or Loki's defaults. Nanoseconds and bytes.
const SECOND = 1_000_000_000n;
const MAX_AGE = 720n * 3600n * SECOND;
const MAX_AHEAD = 600n * SECOND;
const OUT_OF_ORDER = 3600n * SECOND;
const MAX_LINE = 256 * 1024;
const MAX_METADATA = 64 * 1024;
const MB = 1024 * 1024;
/** Of what it lists of out-of-order entries in an answer. */
const MAX_REASONS = 10;

interface MemoryStream extends Stream {
  /** Entries that are not yet written out: here Loki itself drops exact duplicates. */
  readonly head: Set<string>;
  highest: bigint;
  last: string;
}
interface Tenant {
  readonly streams: Map<string, MemoryStream>;
  /** Token bucket of the ingestion rate: bytes left, and when that was (milliseconds). */
  bucket?: { left: number; at: number };
}
interface Batch {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly entries: StoredEntry[];
}

export interface StoreOptions {
  /** Limits of single tenants, as in Loki's overrides file. */
  readonly tenants: Readonly<Record<string, TenantLimits>>;
  /** Of one message from the distributor to the ingester, into which a whole push goes. */
  readonly maxMessageBytes: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export class LokiStore {
  readonly #tenants = new Map<string, Tenant>();
  readonly #limits: Readonly<Record<string, TenantLimits>>;
  readonly #maxMessage: number;
  readonly #now: () => number;

  constructor({ tenants, maxMessageBytes, now }: StoreOptions) {
    this.#limits = tenants;
    this.#maxMessage = maxMessageBytes;
    this.#now = now;
  }

  streams(tenant: string): Iterable<Stream> {
    return this.#tenants.get(tenant)?.streams.values() ?? [];
  }

  /** Write everything out: what comes again from now on is stored a second time. */
  flush(): void {
    for (const { streams } of this.#tenants.values()) for (const { head } of streams.values()) head.clear();
  }

  /** @throws {LokiRefusal} when anything of it was refused, and the masking bug does not hide it */
  push(tenantId: string, body: string): void {
    const { batches, errors, blocked } = this.#validate(tenantId, parsePush(body));
    // An error of a validation outweighs a block.
    const refused = errors.length > 0 ? new LokiRefusal(400, grouped(errors)) : blocked;
    if (batches.length > 0) {
      const tenant = this.#tenants.get(tenantId) ?? { streams: new Map() };
      this.#tenants.set(tenantId, tenant);
      this.#limitRate(tenantId, tenant, batches);
      const size = batches.reduce((sum, batch) => sum + messageSize(batch), 0);
      if (size > this.#maxMessage) {
        const reason = `grpc: received message larger than max (${size} vs. ${this.#maxMessage})`;
        throw new LokiRefusal(500, `rpc error: code = ResourceExhausted desc = ${reason}`);
      }
      // The masking bug: of several streams only the last one's error is answered.
      let error: LokiRefusal | undefined;
      for (const batch of batches) error = this.#store(tenantId, tenant, batch);
      if (error !== undefined) throw error;
    }
    if (refused !== undefined) throw refused;
  }

  #validate(tenantId: string, { streams }: PushRequest) {
    const until = this.#limits[tenantId]?.block_ingestion_until;
    const errors: string[] = [];
    const batches: Batch[] = [];
    let blocked: LokiRefusal | undefined;
    for (const { stream, values } of streams) {
      if (values.length === 0) continue;
      const labels = Object.fromEntries(
        Object.entries(stream)
          .filter(([, value]) => value !== "")
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      );
      const name = nameOf(labels);
      const bad = labelError(name, labels);
      if (bad !== undefined) {
        errors.push(bad);
        continue;
      }
      if (until !== undefined && this.#now() < Date.parse(until)) {
        const reason = `ingestion blocked for user '${tenantId}' until '${until}' with status code '260'`;
        blocked = new LokiRefusal(260, reason);
        continue;
      }
      const entries: StoredEntry[] = [];
      for (const [ns, line, metadata = {}] of values) {
        const entry = { ns: BigInt(ns), line, metadata: cleaned(metadata) };
        const error = this.#entryError(name, entry);
        if (error === undefined) entries.push(entry);
        else errors.push(error);
      }
      if (entries.length > 0) batches.push({ name, labels, entries });
    }
    return { batches, errors, blocked };
  }

  #entryError(name: string, { ns, line, metadata }: StoredEntry): string | undefined {
    const now = BigInt(this.#now()) * 1_000_000n;
    const metadataBytes = sizeOf(metadata);
    if (ns < now - MAX_AGE) {
      return `entry for stream '${name}' has timestamp too old: ${second(ns)}, oldest acceptable timestamp is: ${second(now - MAX_AGE)}`;
    }
    if (ns > now + MAX_AHEAD) return `entry for stream '${name}' has timestamp too new: ${second(ns)}`;
    if (bytes(line) > MAX_LINE) {
      return `max entry size '${MAX_LINE}' bytes exceeded for stream '${name}' while adding an entry with length '${bytes(line)}' bytes`;
    }
    if (metadataBytes > MAX_METADATA) {
      return `stream '${name}' has structured metadata too large: '${metadataBytes}' bytes, limit: '${MAX_METADATA}' bytes. Please see \`limits_config.max_structured_metadata_size\` or contact your Loki administrator to increase it`;
    }
    return undefined;
  }

  /** A push that does not fit takes nothing from the bucket; one that is larger than the bucket never fits. */
  #limitRate(tenantId: string, tenant: Tenant, batches: readonly Batch[]): void {
    const { ingestion_rate_mb: rate = 16, ingestion_burst_size_mb: burst = 32 } =
      this.#limits[tenantId] ?? {};
    const entries = batches.flatMap((batch) => batch.entries);
    const size = entries.reduce((sum, { line, metadata }) => sum + bytes(line) + sizeOf(metadata), 0);
    const now = this.#now();
    const { left, at } = tenant.bucket ?? { left: burst * MB, at: now };
    const filled = Math.min(burst * MB, left + ((now - at) / 1000) * rate * MB);
    const fits = size <= filled;
    tenant.bucket = { left: fits ? filled - size : filled, at: now };
    if (fits) return;
    throw new LokiRefusal(
      429,
      `ingestion rate limit exceeded for user ${tenantId} (limit: ${Math.floor(rate * MB)} bytes/sec) while attempting to ingest '${entries.length}' lines totaling '${size}' bytes, reduce log volume or contact your Loki administrator to see if the limit can be increased`,
    );
  }

  #store(tenantId: string, { streams }: Tenant, { name, labels, entries }: Batch): LokiRefusal | undefined {
    const stream = streams.get(name) ?? { labels, entries: [], head: new Set(), highest: 0n, last: "" };
    streams.set(name, stream);
    const ignored: string[] = [];
    for (const entry of entries) {
      const key = JSON.stringify([String(entry.ns), entry.line, entry.metadata]);
      if (key === stream.last) continue;
      const cutoff = stream.highest - OUT_OF_ORDER;
      if (entry.ns < cutoff) {
        const reason = `entry too far behind, entry timestamp is: ${second(entry.ns)}, oldest acceptable timestamp is: ${second(cutoff)}`;
        ignored.push(`entry with timestamp ${goTime(entry.ns)} ignored, reason: '${reason}',\n`);
        continue;
      }
      if (!stream.head.has(key)) stream.entries.push(entry);
      stream.head.add(key);
      stream.last = key;
      if (entry.ns > stream.highest) stream.highest = entry.ns;
    }
    if (ignored.length === 0) return undefined;
    const total = `user '${tenantId}', total ignored: ${ignored.length} out of ${entries.length} for stream: ${name}`;
    return new LokiRefusal(400, ignored.slice(0, MAX_REASONS).join("") + total);
  }
}

/** Equal errors are said once, with their number; a single one as it is. */
function grouped(errors: readonly string[]): string {
  if (errors.length === 1) return errors[0] ?? "";
  return [...Map.groupBy(errors, (error) => error)]
    .map(([error, { length }]) => `${length} errors like: ${error}`)
    .join("; ");
}

/** About what the stream takes as protobuf: some bytes of tags, lengths and time per entry and pair. */
const messageSize = ({ name, entries }: Batch): number =>
  entries.reduce(
    (sum, { line, metadata }) => sum + 22 + bytes(line) + sizeOf(metadata) + 6 * Object.keys(metadata).length,
    bytes(name) + 16,
  );

const second = (ns: bigint): string => `${new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19)}Z`;

/** As Go prints a time: `2026-01-31 12:00:00.5 +0000 UTC`. */
function goTime(ns: bigint): string {
  const fraction = String(ns % SECOND)
    .padStart(9, "0")
    .replace(/0+$/, "");
  return `${second(ns).slice(0, 19).replace("T", " ")}${fraction === "" ? "" : `.${fraction}`} +0000 UTC`;
}
