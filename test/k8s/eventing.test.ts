/** Broker, Trigger and sources: what Knative Eventing is told to deliver, and where. */
import { expect, test } from "vitest";
import { eventRoutes, routes } from "../../shared/routes.ts";
import { shipLimits } from "../../shared/ship-batch.ts";
import { podOf, serviceFolders, servicesIn } from "./knative-services.ts";
import { describeRendered, ofKind, render } from "./render.ts";

interface Destination {
  readonly ref: { readonly apiVersion: string; readonly kind: string; readonly name: string };
  readonly uri?: string;
}
interface Trigger {
  readonly spec: {
    readonly broker: string;
    readonly filters: readonly Readonly<Record<string, Readonly<Record<string, string>>>>[];
    readonly subscriber: Destination;
    readonly delivery: Readonly<Record<string, unknown>> & { readonly deadLetterSink: Destination };
  };
}
interface PingSource {
  readonly spec: { readonly schedule: string; readonly sink: Destination };
}
interface SinkBinding {
  readonly spec: {
    readonly subject: {
      readonly apiVersion: string;
      readonly kind: string;
      readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    };
    readonly sink: Destination;
  };
}

/** Seconds of an ISO 8601 duration. */
const seconds = (text: unknown): number => Number(/^PT([\d.]+)S$/.exec(String(text))?.[1]);

/** A function as an event's destination, on the path where it takes events. */
const functionTaking = (id: string): Destination => ({
  ref: { apiVersion: "serving.knative.dev/v1", kind: "Service", name: id },
  uri: String(eventRoutes.find((route) => route.id === id)?.path),
});

for (const folder of serviceFolders) {
  describeRendered(`eventing in ${folder}`, () => {
    const objects = render(folder);
    const services = servicesIn(folder);
    const [broker] = ofKind(objects, "eventing.knative.dev/v1", "Broker");
    const [trigger] = ofKind<Trigger>(objects, "eventing.knative.dev/v1", "Trigger");
    const pings = ofKind<PingSource>(objects, "sources.knative.dev/v1", "PingSource");
    const bindings = ofKind<SinkBinding>(objects, "sources.knative.dev/v1", "SinkBinding");
    const binding = bindings.find(({ metadata }) => metadata.name === "audit-publishers");
    const delivery = trigger?.spec.delivery;

    test("the Broker is a channel-based one that answers publishers at once", () => {
      expect(broker?.metadata.name).toBe("audit");
      expect(broker?.metadata.annotations).toEqual({
        "eventing.knative.dev/broker.class": "MTChannelBasedBroker",
        "messaging.knative.dev/async-handler": "true",
      });
    });

    test("the Trigger hands audit entries, and nothing else, to audit-ship where it takes them", () => {
      expect(trigger?.spec.broker).toBe(broker?.metadata.name);
      // One dialect for each element of the list: Knative refuses more.
      expect(trigger?.spec.filters).toEqual([{ prefix: { type: "dev.latchkey.audit." } }]);
      expect(trigger?.spec.subscriber).toEqual(functionTaking("audit-ship"));
    });

    test("its delivery is whole, because it replaces the Broker's, and ends at audit-dead-letter", () => {
      expect(delivery).toEqual({
        retry: 5,
        backoffPolicy: "exponential",
        backoffDelay: expect.stringMatching(/^PT\d+S$/),
        timeout: expect.stringMatching(/^PT\d+S$/),
        deadLetterSink: functionTaking("audit-dead-letter"),
      });
    });

    test("a delivery may take longer than audit-ship's patience and a cold start together, and no longer than its request may", () => {
      const COLD_START = 20;
      const timeout = seconds(delivery?.["timeout"]);
      const ship = services.find(({ metadata }) => metadata.name === "audit-ship");
      expect(timeout).toBeGreaterThanOrEqual(shipLimits.patienceMs / 1000 + COLD_START);
      expect(timeout).toBeLessThan(ship === undefined ? 0 : podOf(ship).timeoutSeconds);
    });

    test("every minute audit-relay and data-expire are called where they take events", () => {
      expect(pings.map(({ spec }) => spec)).toEqual(
        ["audit-relay", "data-expire"].map((id) => ({ schedule: "* * * * *", sink: functionTaking(id) })),
      );
    });

    test("every function that takes events is somebody's destination", () => {
      const called = [
        trigger?.spec.subscriber,
        delivery?.deadLetterSink,
        ...pings.map(({ spec }) => spec.sink),
      ];
      expect(called.map((destination) => destination?.uri).sort()).toEqual(
        eventRoutes.map(({ path }) => path).sort(),
      );
    });

    test("the SinkBinding gives the Broker to every function that leaves audit entries, and to no other", () => {
      expect(binding?.spec.sink.ref).toEqual({
        apiVersion: "eventing.knative.dev/v1",
        kind: "Broker",
        name: broker?.metadata.name,
      });
      const { apiVersion, kind, selector } = binding?.spec.subject ?? {};
      expect([apiVersion, kind]).toEqual(["serving.knative.dev/v1", "Service"]);
      const wanted = Object.entries(selector?.matchLabels ?? {});
      expect(wanted.length).toBeGreaterThan(0);
      const bound = services.filter(({ metadata }) =>
        wanted.every(([label, value]) => metadata.labels?.[label] === value),
      );
      expect(bound.map(({ metadata }) => metadata.name).sort()).toEqual(
        routes.map(({ id }) => id as string).sort(),
      );
    });
  });
}
