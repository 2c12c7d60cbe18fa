/** The same suite over the double of Loki, always, and over a real one where there is one; its name says which. */
import { afterAll, beforeAll, describe, test } from "vitest";
import { type LokiOptions, realLoki, startDouble, startLoki, type TestLoki } from "./loki.ts";
import { lokiTools } from "./loki-tools.ts";

interface Given {
  /** Only within a test. */
  readonly loki: () => TestLoki;
  readonly tools: () => ReturnType<typeof lokiTools>;
  /** For a Loki that is started here: one at LOKI_URL learns no limits of single tenants, and is not killed. */
  readonly ours: typeof test;
}

export function forEachLoki(options: LokiOptions, suite: (given: Given) => void): void {
  over("the double of Loki", () => startDouble(options), test, suite);
  const real = realLoki();
  if (real === undefined) {
    test.skip("a real Loki: there is none; set LOKI_URL or put `loki` on the PATH", () => undefined);
    return;
  }
  const ours = real === "LOKI_URL" ? (test.skip as typeof test) : test;
  over(`a real Loki (${real})`, () => startLoki(options), ours, suite);
}

function over(
  name: string,
  start: () => Promise<TestLoki>,
  ours: typeof test,
  suite: (given: Given) => void,
): void {
  describe(name, () => {
    let loki: TestLoki | undefined;
    const running = (): TestLoki => {
      if (loki === undefined) throw new Error("it is started before the first test");
      return loki;
    };
    beforeAll(async () => {
      loki = await start();
    });
    afterAll(() => loki?.stop());
    suite({ loki: running, tools: () => lokiTools(running().url), ours });
  });
}
