/**
 * The text of an API key: `lk_<env>_<tenant tag><id><secret>_<checksum>`, 69 characters for `live`.
 *
 * One double-click selects it (letters, digits, underscores). The prefix and the CRC-32 let a secret scanner
 * recognise it and let us refuse garbage without asking the store. The tenant tag and the id name the store's keys,
 * so that one round trip is enough.
 */
import { randomBase62, toBase62 } from "./formats.ts";

/** 11 base62 characters hold the 64-bit tenant tag. */
export const TENANT_TAG_LENGTH = 11;
const ID_LENGTH = 16;
/** 160 random bits; 137 stay secret after the hint has shown the last four characters. */
const SECRET_LENGTH = 27;
const BODY_LENGTH = TENANT_TAG_LENGTH + ID_LENGTH + SECRET_LENGTH;
const HINT_LENGTH = 4;

const FORMAT = new RegExp(`^(lk_([a-z]{2,10})_([0-9A-Za-z]{${BODY_LENGTH}}))_([0-9A-Za-z]{6})$`);

export interface ApiKey {
  /** The whole text: the secret. */
  readonly text: string;
  readonly env: string;
  readonly tenantTag: string;
  readonly keyId: string;
}

/** What tells an API key from a JWT before anything else is known. */
export const looksLikeApiKey = (credential: string): boolean => credential.startsWith("lk_");

/** The parts of a well-formed key with a right checksum; undefined for anything else. */
export function parseApiKey(text: string): ApiKey | undefined {
  const [, checked, env, body, checksum] = FORMAT.exec(text) ?? [];
  if (checked === undefined || env === undefined || body === undefined) return undefined;
  if (checksumOf(checked) !== checksum) return undefined;
  return { text, env, tenantTag: body.slice(0, TENANT_TAG_LENGTH), keyId: keyIdIn(body) };
}

/** A new random key for a tenant. */
export function newApiKey(env: string, tenantTag: string): ApiKey {
  const body = tenantTag + randomBase62(ID_LENGTH + SECRET_LENGTH);
  const checked = `lk_${env}_${body}`;
  return { text: `${checked}_${checksumOf(checked)}`, env, tenantTag, keyId: keyIdIn(body) };
}

const keyIdIn = (body: string): string =>
  `key_${body.slice(TENANT_TAG_LENGTH, TENANT_TAG_LENGTH + ID_LENGTH)}`;

/** What a key of an environment begins with. */
export const prefixOf = (env: string): string => `lk_${env}_`;

/** What identifies a key to its owner in a list: the prefix and the last four characters of the secret part. */
export const hintOf = (key: ApiKey): string => {
  const end = key.text.lastIndexOf("_");
  return `${prefixOf(key.env)}…${key.text.slice(end - HINT_LENGTH, end)}`;
};

const checksumOf = (text: string): string => toBase62(BigInt(crc32(text)), 6);

/** CRC-32 of ASCII text (ISO 3309 polynomial, reflected: the one of zip and PNG). */
export function crc32(text: string): number {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i += 1) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ text.charCodeAt(i)) & 0xff] as number);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1)
    remainder = remainder & 1 ? (remainder >>> 1) ^ 0xedb88320 : remainder >>> 1;
  return remainder;
});
