/** The commands that show what Latchkey does: printed by `npm start`, shown in the README, run by a test. */
import { DEMO_PASSWORD } from "./demo.ts";

const pick = (field: string): string => `node -p 'JSON.parse(require("fs").readFileSync(0)).${field}'`;

const JSON_TYPE = '-H "Content-Type: application/json"';

/** `[what it shows, the command]`; they build on each other, in one shell. */
export const walkthrough = (origin: string): readonly (readonly [title: string, command: string])[] => [
  [
    "Log in",
    `TOKEN=$(curl -s ${origin}/token -d username=admin -d password=${DEMO_PASSWORD} | ${pick("access_token")})`,
  ],
  ["Who am I?", `curl -sw "\\n" ${origin}/users/me -H "Authorization: Bearer $TOKEN"`],
  [
    "Create an API key; its text is shown this once",
    `KEY=$(curl -s ${origin}/api-keys -H "Authorization: Bearer $TOKEN" ${JSON_TYPE} -d '{"name": "my program"}' | ${pick("key_value")})`,
  ],
  [
    "Use it: store an item",
    `curl -sw "\\n" ${origin}/data -H "X-API-Key: $KEY" ${JSON_TYPE} -d '{"key": "greeting", "value": {"text": "hello"}, "ttl": 3600}'`,
  ],
  ["… and read it", `curl -sw "\\n" ${origin}/data/greeting -H "X-API-Key: $KEY"`],
  ["… and delete it", `curl -sw "\\n" -X DELETE ${origin}/data/greeting -H "X-API-Key: $KEY"`],
  ["List the keys", `curl -sw "\\n" ${origin}/api-keys -H "Authorization: Bearer $TOKEN"`],
  [
    "Delete the key",
    `KEY_ID=$(curl -s "${origin}/api-keys?limit=1" -H "Authorization: Bearer $TOKEN" | ${pick("data[0].key_id")})\n` +
      `curl -sw "\\n" -X DELETE ${origin}/api-keys/$KEY_ID -H "Authorization: Bearer $TOKEN"`,
  ],
  ["It is refused at once", `curl -sw "\\n" ${origin}/data/greeting -H "X-API-Key: $KEY"`],
  [
    "See it all in the audit trail",
    `curl -sw "\\n" "${origin}/audit?limit=10" -H "Authorization: Bearer $TOKEN"`,
  ],
];

export const walkthroughText = (origin: string): string =>
  walkthrough(origin)
    .map(([title, command]) => `# ${title}\n${command}\n`)
    .join("\n");
