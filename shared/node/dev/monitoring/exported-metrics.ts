/** What the code can export, without a process that does. */
import { createMetrics } from "../../metrics.ts";
import {
  observeBacklog,
  observeDeadLetters,
  observePublisher,
  observeShipper,
} from "../../pipeline-metrics.ts";

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
}

/** Latchkey's own; Node's and the process's (`nodejs_…`, `process_…`) come with them. */
export function exportedMetrics(): Metric[] {
  const { registry } = createMetrics();
  observePublisher(registry);
  observeDeadLetters(registry);
  observeBacklog(registry, () => Promise.reject(new Error("nobody is asked")), 0);
  observeShipper(registry, () => ({ entries: 0, bytes: 0, deliveries: 0, tenants: 0, held: 0, oldestMs: 0 }));
  const all = registry.getMetricsAsArray() as unknown as Metric[];
  return all.filter(({ name }) => name.startsWith("latchkey_")).sort((a, b) => (a.name < b.name ? -1 : 1));
}
