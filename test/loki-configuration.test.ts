/**
 * k8s/loki/loki.yaml says what the audit trail counts on, whether or not there is a Loki to try it with. What Loki makes of
 * each setting test/loki.test.ts measures.
 */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { MAX_QUERY_ENTRIES } from "../shared/loki.ts";
import { shipLimits } from "../shared/ship-batch.ts";
import { realLoki, startLoki } from "./support/loki.ts";

const MB = 1024 * 1024;
/** With the variables' defaults. */
const configuration = parse(
  readFileSync(new URL("../k8s/loki/loki.yaml", import.meta.url), "utf8").replaceAll(
    /\$\{\w+:-([^}]*)\}/g,
    "$1",
  ),
);
const limits = configuration.limits_config;

test("an entry that is sent again is stored as the same: nothing about it is Loki's own guess", () => {
  expect(limits).toMatchObject({
    shard_streams: { enabled: false },
    increment_duplicate_timestamp: false,
    discover_log_levels: false,
    discover_service_name: [],
    max_line_size_truncate: false,
    allow_structured_metadata: true,
  });
});

test("a tenant sees its own entries only, and nobody deletes any", () => {
  expect(configuration.auth_enabled).toBe(true);
  expect(limits.deletion_mode).toBe("disabled");
});

test("204 is in the write-ahead log, and what has arrived late or large is found", () => {
  expect(configuration.ingester).toMatchObject({
    wal: { enabled: true },
    max_chunk_age: "2h",
    query_store_max_look_back_period: "-1ns",
  });
  expect(configuration.querier.query_ingesters_within).toBe("0s");
  expect(configuration.query_range.cache_results).toBe(false);
  expect(configuration.schema_config.configs).toMatchObject([{ store: "tsdb", schema: "v13" }]);
  expect(limits).toMatchObject({ reject_old_samples_max_age: "720h", max_query_length: "721h" });
  expect(limits.max_entries_limit_per_query).toBe(MAX_QUERY_ENTRIES);
});

test("no push of audit-ship is too large for good", () => {
  const bounds = [
    limits.ingestion_burst_size_mb * MB,
    Number.parseInt(limits.per_stream_rate_limit_burst, 10) * MB,
    configuration.server.grpc_server_max_recv_msg_size,
  ];
  for (const bound of bounds) expect(bound).toBeGreaterThan(4 * shipLimits.batchBytes);
});

const real = realLoki() === "loki on the PATH";
test.skipIf(!real)(
  `Loki knows every limit that is set: it passes over those that it does not know${real ? "" : " (there is no loki on the PATH)"}`,
  async () => {
    const loki = await startLoki();
    try {
      const { limits_config: known } = parse(await (await fetch(`${loki.url}/config`)).text());
      expect(Object.keys(limits).filter((name) => !(name in known))).toEqual([]);
    } finally {
      await loki.stop();
    }
  },
);
