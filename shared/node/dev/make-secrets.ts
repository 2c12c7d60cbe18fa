/** Fresh random secrets, as the environment variables that carry them. */
import { randomBytes } from "node:crypto";
import { exportJWK, generateKeyPair } from "jose";

/** @param mark names the key and the pepper; `demo…` is what production refuses */
export async function makeSecrets(mark: string): Promise<Record<string, string>> {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
  const header = { kid: mark, alg: "EdDSA" };
  return {
    LATCHKEY_JWT_PRIVATE_KEY: JSON.stringify({ ...header, ...(await exportJWK(privateKey)) }),
    LATCHKEY_JWT_PUBLIC_KEYS: JSON.stringify({ keys: [{ ...header, ...(await exportJWK(publicKey)) }] }),
    LATCHKEY_API_KEY_PEPPERS: `${mark}:${randomBytes(32).toString("base64url")}`,
  };
}
