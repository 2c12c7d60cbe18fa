/** A short run of the crash test of the audit pipeline; `npm run crash:audit` is the long one. */
import { expect, test } from "vitest";
import { crashAudit, crashSeed } from "./crash-audit.ts";

test("kill -9 of function, broker, audit-ship, relay and Loki under load: all arrives in Loki, once", async () => {
  const seed = crashSeed();
  const { report, violations } = await crashAudit({ seconds: 12, drainSeconds: 60, seed });
  process.stdout.write(`${report}\n`);
  expect(violations).toEqual([]);
}, 150_000);
