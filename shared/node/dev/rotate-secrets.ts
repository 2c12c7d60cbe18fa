/**
 * Rotation in steps, so that every function always knows what any other may be using: first the new one is known
 * everywhere, then it is used, and at last the old one is retired. Between two steps the functions are rolled out.
 */
import * as z from "zod";
import { parseConfig } from "../../config.ts";
import { type ClusterSecret, NAMESPACE } from "./cluster-secrets.ts";
import { makeSecrets } from "./make-secrets.ts";

export const rotated = ["jwt", "peppers"] as const;
type Rotated = (typeof rotated)[number];

/** Beside the private key in use; not a variable of ours, so functions pass over it. */
const NEXT_PRIVATE_KEY = "NEXT_JWT_PRIVATE_KEY";
/** Names the pepper that is known and not yet used. */
const NEXT_PEPPER = "latchkey.dev/next-pepper";

const decode = (text: string): string => Buffer.from(text, "base64").toString();
const secret = z.object({
  metadata: z.object({
    resourceVersion: z.string(),
    annotations: z.record(z.string(), z.string()).default({}),
  }),
  data: z.record(z.string(), z.string().transform(decode)),
});
const named = (name: string) =>
  secret.extend({ metadata: secret.shape.metadata.extend({ name: z.literal(name) }) });
/** As `kubectl get secret latchkey-jwt latchkey-keys --output json` prints them. */
const current = z.object({ items: z.tuple([named("latchkey-jwt"), named("latchkey-keys")]) });

const keyPair = z.object({ kid: z.string() }).loose();
const keySet = z.object({ keys: z.array(keyPair).min(1) });

interface State {
  readonly privateKey: string;
  readonly nextPrivateKey: string | undefined;
  readonly publicKeys: z.infer<typeof keySet>["keys"];
  /** The current one first. */
  readonly peppers: readonly string[];
  readonly nextPepper: string | undefined;
}

export interface Step {
  readonly secrets: readonly ClusterSecret[];
  /** What is to be done next, for who typed it. */
  readonly advice: string;
}

const kidOf = (key: string): string => keyPair.parse(JSON.parse(key)).kid;
const versionOf = (pepper: string): string => pepper.slice(0, pepper.indexOf(":"));
const ROLL = "Roll the functions out";

/** The next step that brings something new into use. @param mark names it */
export async function rotate(what: Rotated, kubectlOutput: string, mark: string): Promise<Step> {
  const [before, secretsWith] = read(kubectlOutput);
  const fresh = await makeSecrets(mark);
  if (what === "jwt") {
    if (before.nextPrivateKey !== undefined) {
      const after = { ...before, privateKey: before.nextPrivateKey, nextPrivateKey: undefined };
      return secretsWith(after, `${ROLL}, wait for the lifetime of a token, then: --retire jwt`);
    }
    const { keys } = keySet.parse(JSON.parse(fresh["LATCHKEY_JWT_PUBLIC_KEYS"] as string));
    const nextPrivateKey = fresh["LATCHKEY_JWT_PRIVATE_KEY"];
    const after = { ...before, nextPrivateKey, publicKeys: [...before.publicKeys, ...keys] };
    return secretsWith(after, `${ROLL}, then: --rotate jwt, again`);
  }
  if (before.nextPepper !== undefined) {
    const isNext = (pepper: string) => versionOf(pepper) === before.nextPepper;
    const peppers = [...before.peppers.filter(isNext), ...before.peppers.filter((one) => !isNext(one))];
    return secretsWith(
      { ...before, peppers, nextPepper: undefined },
      `${ROLL}. Each API key moves to the new pepper at its next use; those that never did end with: --retire peppers`,
    );
  }
  const pepper = fresh["LATCHKEY_API_KEY_PEPPERS"] as string;
  const after = { ...before, peppers: [...before.peppers, pepper], nextPepper: versionOf(pepper) };
  return secretsWith(after, `${ROLL}, then: --rotate peppers, again`);
}

/** The last step: whatever is not in use any more is forgotten. */
export function retire(what: Rotated, kubectlOutput: string): Step {
  const [before, secretsWith] = read(kubectlOutput);
  const pending = what === "jwt" ? before.nextPrivateKey : before.nextPepper;
  if (pending !== undefined)
    throw new Error(`The new one is known and not yet in use; first: --rotate ${what}`);
  const signing = kidOf(before.privateKey);
  return secretsWith(
    what === "jwt"
      ? { ...before, publicKeys: before.publicKeys.filter(({ kid }) => kid === signing) }
      : { ...before, peppers: before.peppers.slice(0, 1) },
    `${ROLL}.`,
  );
}

function read(kubectlOutput: string): [State, (after: State, advice: string) => Step] {
  const {
    items: [jwt, keys],
  } = current.parse(JSON.parse(kubectlOutput));
  const before: State = {
    privateKey: z.string().parse(jwt.data["LATCHKEY_JWT_PRIVATE_KEY"]),
    nextPrivateKey: jwt.data[NEXT_PRIVATE_KEY],
    publicKeys: keySet.parse(JSON.parse(z.string().parse(keys.data["LATCHKEY_JWT_PUBLIC_KEYS"]))).keys,
    peppers: z.string().parse(keys.data["LATCHKEY_API_KEY_PEPPERS"]).split(","),
    nextPepper: keys.metadata.annotations[NEXT_PEPPER],
  };
  const replacing = (
    { metadata }: z.infer<typeof secret> & { metadata: { name: string } },
    stringData: Record<string, string>,
    annotations = {},
  ): ClusterSecret => ({
    apiVersion: "v1",
    kind: "Secret",
    // With its resourceVersion a Secret that somebody else has changed meanwhile is not overwritten.
    metadata: {
      name: metadata.name,
      namespace: NAMESPACE,
      resourceVersion: metadata.resourceVersion,
      annotations,
    },
    stringData,
  });
  return [
    before,
    (after, advice) => {
      const variables = {
        LATCHKEY_JWT_PRIVATE_KEY: after.privateKey,
        LATCHKEY_JWT_PUBLIC_KEYS: JSON.stringify({ keys: after.publicKeys }),
        LATCHKEY_API_KEY_PEPPERS: after.peppers.join(","),
      };
      // Nothing leaves here that a function would refuse to start with.
      parseConfig({ ...variables, REDIS_URL: "redis://unused" });
      const { LATCHKEY_JWT_PRIVATE_KEY, ...shared } = variables;
      const next = after.nextPrivateKey === undefined ? {} : { [NEXT_PRIVATE_KEY]: after.nextPrivateKey };
      const pepper = after.nextPepper === undefined ? {} : { [NEXT_PEPPER]: after.nextPepper };
      return {
        secrets: [replacing(jwt, { LATCHKEY_JWT_PRIVATE_KEY, ...next }), replacing(keys, shared, pepper)],
        advice,
      };
    },
  ];
}
