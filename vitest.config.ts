import { defineConfig } from "vitest/config";
import { CONTRACT } from "./test/support/contract.ts";
import { nginxBinary } from "./test/support/nginx-binary.ts";

const everywhere = {
  name: "latchkey",
  include: ["test/**/*.test.ts"],
  globalSetup: "test/support/global-setup.ts",
  provide: { through: "process" as const, gateway: undefined },
};
const throughNginx = {
  name: "through nginx",
  include: [...CONTRACT],
  globalSetup: "test/support/gateway-setup.ts",
  provide: { through: "nginx" as const },
};

export default defineConfig({
  test: {
    // Real processes and real password hashes on two cores; nothing here measures time.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Long enough for the slowest machine: what is waited for ends the wait.
    expect: { poll: { timeout: 50_000, interval: 10 } },
    // Without nginx test/gateway.test.ts says so.
    projects: (nginxBinary() === undefined ? [everywhere] : [everywhere, throughNginx]).map((test) => ({
      extends: true as const,
      test,
    })),
  },
});
