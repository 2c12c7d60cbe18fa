/** The broker double as a process of its own, so that kill -9 takes what it holds in memory: `node … <port> <subscriber>`. */
import { startBroker } from "./broker-double.ts";

const [port, subscriber = ""] = process.argv.slice(2);
// A Trigger's delivery as it is deployed, but for the first wait: retries go on for longer than most restarts take.
await startBroker({ port: Number(port), subscriber, retries: 5, backoffMs: 100, timeoutMs: 12_000 });
