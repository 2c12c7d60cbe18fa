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
  /** Of the Secrets as they were read: what somebody else has changed meanwhile is not overwritten. */
  readonly versions: Readonly<Record<"jwt" | "keys", string>>;
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
  const before = read(kubectlOutput);
  return what === "jwt" ? rotateKeys(before, mark) : rotatePeppers(before, mark);
}

async function rotateKeys(before: State, mark: string): Promise<Step> {
  const { nextPrivateKey } = before;
  if (nextPrivateKey !== undefined) {
    return {
      secrets: secretsOf({ ...before, privateKey: nextPrivateKey, nextPrivateKey: undefined }),
      advice: `${ROLL}, wait for the lifetime of a token, then: --retire jwt`,
    };
  }
  const fresh = await makeSecrets(mark);
  const { keys } = keySet.parse(JSON.parse(fresh["LATCHKEY_JWT_PUBLIC_KEYS"] as string));
  const known = {
    nextPrivateKey: fresh["LATCHKEY_JWT_PRIVATE_KEY"],
    publicKeys: [...before.publicKeys, ...keys],
  };
  return { secrets: secretsOf({ ...before, ...known }), advice: `${ROLL}, then: --rotate jwt, again` };
}

async function rotatePeppers(before: State, mark: string): Promise<Step> {
  const { peppers, nextPepper } = before;
  if (nextPepper !== undefined) {
    const isNext = (pepper: string) => versionOf(pepper) === nextPepper;
    const used = [...peppers.filter(isNext), ...peppers.filter((one) => !isNext(one))];
    return {
      secrets: secretsOf({ ...before, peppers: used, nextPepper: undefined }),
      advice: `${ROLL}. Each API key moves to the new pepper at its next use; those that never did end with: --retire peppers`,
    };
  }
  const { LATCHKEY_API_KEY_PEPPERS: pepper = "" } = await makeSecrets(mark);
  const known = { peppers: [...peppers, pepper], nextPepper: versionOf(pepper) };
  return { secrets: secretsOf({ ...before, ...known }), advice: `${ROLL}, then: --rotate peppers, again` };
}

/** The last step: whatever is not in use any more is forgotten. */
export function retire(what: Rotated, kubectlOutput: string): Step {
  const before = read(kubectlOutput);
  const pending = what === "jwt" ? before.nextPrivateKey : before.nextPepper;
  if (pending !== undefined)
    throw new Error(`The new one is known and not yet in use; first: --rotate ${what}`);
  const signing = kidOf(before.privateKey);
  const left =
    what === "jwt"
      ? { publicKeys: before.publicKeys.filter(({ kid }) => kid === signing) }
      : { peppers: before.peppers.slice(0, 1) };
  return { secrets: secretsOf({ ...before, ...left }), advice: `${ROLL}.` };
}

function read(kubectlOutput: string): State {
  const [jwt, keys] = current.parse(JSON.parse(kubectlOutput)).items;
  const text = (value: string | undefined): string => z.string().parse(value);
  return {
    privateKey: text(jwt.data["LATCHKEY_JWT_PRIVATE_KEY"]),
    nextPrivateKey: jwt.data[NEXT_PRIVATE_KEY],
    publicKeys: keySet.parse(JSON.parse(text(keys.data["LATCHKEY_JWT_PUBLIC_KEYS"]))).keys,
    peppers: text(keys.data["LATCHKEY_API_KEY_PEPPERS"]).split(","),
    nextPepper: keys.metadata.annotations[NEXT_PEPPER],
    versions: { jwt: jwt.metadata.resourceVersion, keys: keys.metadata.resourceVersion },
  };
}

function secretsOf(state: State): ClusterSecret[] {
  const variables = {
    LATCHKEY_JWT_PRIVATE_KEY: state.privateKey,
    LATCHKEY_JWT_PUBLIC_KEYS: JSON.stringify({ keys: state.publicKeys }),
    LATCHKEY_API_KEY_PEPPERS: state.peppers.join(","),
  };
  // Nothing leaves here that a function would refuse to start with.
  parseConfig({ ...variables, REDIS_URL: "redis://unused" });
  const { LATCHKEY_JWT_PRIVATE_KEY, ...shared } = variables;
  const next = state.nextPrivateKey === undefined ? {} : { [NEXT_PRIVATE_KEY]: state.nextPrivateKey };
  const annotations = state.nextPepper === undefined ? {} : { [NEXT_PEPPER]: state.nextPepper };
  return [
    replacement("latchkey-jwt", state.versions.jwt, {}, { LATCHKEY_JWT_PRIVATE_KEY, ...next }),
    replacement("latchkey-keys", state.versions.keys, annotations, shared),
  ];
}

const replacement = (
  name: string,
  resourceVersion: string,
  annotations: Record<string, string>,
  stringData: Record<string, string>,
): ClusterSecret => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: NAMESPACE, resourceVersion, annotations },
  stringData,
});
