import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/global-setup.ts",
    // Real processes and real password hashes on two cores; nothing here measures time.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
