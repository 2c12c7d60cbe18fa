/** Broker, Trigger and sources: what Knative Eventing is told to deliver, and where. */
import { expect, test } from "vitest";
import { shipLimits } from "../../shared/ship-batch.ts";
import { describeRendered, ofKind, render } from "./render.ts";

const EVENTING = "eventing.knative.dev/v1";

interface Destination {
  readonly ref: { readonly apiVersion: string; readonly kind: string; readonly name: string };
  readonly uri?: string;
}
interface Trigger {
  readonly spec: {
    readonly broker: string;
    readonly subscriber: Destination;
    readonly filters: readonly Readonly<Record<string, Readonly<Record<string, string>>>>[];
    readonly delivery: Readonly<Record<string, unknown>> & { readonly deadLetterSink: Destination };
  };
}

/** Seconds of an ISO 8601 duration. */
const seconds = (text: unknown): number => Number(/^PT([\d.]+)S$/.exec(String(text))?.[1]);

describeRendered("eventing", () => {
  const objects = render("knative");
  const [trigger] = ofKind<Trigger>(objects, EVENTING, "Trigger");

  test("the Broker answers publishers at once", () => {
    const [broker] = ofKind(objects, EVENTING, "Broker");
    expect(broker?.metadata.annotations).toEqual({
      "eventing.knative.dev/broker.class": "MTChannelBasedBroker",
      "messaging.knative.dev/async-handler": "true",
    });
  });

  test("every filter of the Trigger has one dialect", () => {
    expect(trigger?.spec.filters.map((filter) => Object.keys(filter))).toEqual([["prefix"]]);
  });

  test("a delivery may take longer than audit-ship's patience and a cold start together", () => {
    const COLD_START = 20;
    expect(seconds(trigger?.spec.delivery["timeout"])).toBeGreaterThanOrEqual(
      shipLimits.patienceMs / 1000 + COLD_START,
    );
  });
});
