/** The contract suite: what must hold wherever the API runs, in this process, behind a gateway, or in a cluster. */
export const CONTRACT = [
  "test/functions/*.test.ts",
  "test/cors.test.ts",
  "test/golden.test.ts",
  "test/input.test.ts",
  "test/security.test.ts",
];
