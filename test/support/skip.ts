import { inject, TestRunner } from "vitest";

/** Leave the test that is running, and have it counted as skipped, with the reason. */
export function skip(reason: string): never {
  const test = TestRunner.getCurrentTest();
  if (test === undefined) throw new Error(`Outside a test, where nothing can be skipped: ${reason}`);
  test.context.skip(reason);
  throw new Error(reason);
}

/** In place of something that is not there: whoever looks into it is skipped. */
export const lacking = <T extends object>(reason: string): T =>
  new Proxy((() => skip(reason)) as never, { get: () => skip(reason), apply: () => skip(reason) });

/** For what cannot be done to a process of its own. */
export function onlyInThisProcess(reason: string): void {
  if (inject("through") !== "process") skip(reason);
}

/** For what a gateway that is not ours may do in its own way. */
export const isDeployed = (): boolean => inject("through") === "url";
