import { stringify } from "yaml";

/** Objects of Kubernetes as a file, a document each. */
export function toYaml(objects: readonly object[]): string {
  const documents = objects.map((one) => stringify(one, { lineWidth: 0, aliasDuplicateObjects: false }));
  return `# Made from shared/routes.ts by npm run generate.\n${documents.join("---\n")}`;
}
