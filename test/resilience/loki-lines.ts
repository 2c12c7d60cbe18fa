import type { AuditEntry } from "../../shared/audit.ts";
import { entryFromLine, logQuery, MAX_QUERY_ENTRIES, queryWindow } from "../../shared/loki.ts";
import { createLokiClient } from "../../shared/node/loki-client.ts";

const DAY = 24 * 3600 * 1000;

/** Everything that Loki has of a tenant since then, in pages. What is no entry is undefined. */
export async function linesSince(
  url: string,
  tenant: string,
  since: Date,
): Promise<(AuditEntry | undefined)[]> {
  const client = createLokiClient({ url });
  const lines: (AuditEntry | undefined)[] = [];
  let before: string | undefined;
  for (;;) {
    const options = { now: Date.now(), retention: DAY, before };
    const window = queryWindow({ from: since.toISOString() }, options);
    if (window === undefined) return lines;
    const page = await client.queryRange(tenant, {
      query: logQuery(tenant, {}),
      ...window,
      limit: MAX_QUERY_ENTRIES,
      direction: "backward",
    });
    lines.push(...page.map(({ line }) => entryFromLine(line)));
    // Entries of one nanosecond are never cut apart: nanoseconds tell entries apart.
    before = page.length === MAX_QUERY_ENTRIES ? page.at(-1)?.ns : window.start;
  }
}
