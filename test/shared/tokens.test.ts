import { createPublicKey } from "node:crypto";
import fc from "fast-check";
import { base64url, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { afterEach, expect, test, vi } from "vitest";
import { TOKEN_ALGORITHMS } from "../../shared/token-algorithms.ts";
import { createTokenIssuer, createTokenVerifier } from "../../shared/tokens.ts";
import type { Principal } from "../../shared/users.ts";

const SETTINGS = { issuer: "latchkey", audience: "api" };
const START = Date.parse("2026-01-31T12:00:00.000Z");
/** Seconds: what issuers here give, and by how much clocks may differ. */
const LIFETIME = 60;
const TOLERANCE = 5;
/** Tokens that a verifier remembers at most. */
const REMEMBERED = 10_000;

const ada: Principal = { tenantId: "tenant1", userId: "usr_0123456789abcdef", role: "admin", epoch: 3 };
const caller = { kind: "user", tenantId: ada.tenantId, userId: ada.userId, epoch: ada.epoch };
const claims = { tenant_id: ada.tenantId, role: ada.role, epoch: ada.epoch, sub: ada.userId, jti: "j" };
const times = { iat: START / 1000, exp: START / 1000 + LIFETIME };
const all = { iss: SETTINGS.issuer, aud: SETTINGS.audience, ...claims, ...times };

async function pair(alg: string, kid: string) {
  const keys = await generateKeyPair(alg, { extractable: true });
  const [secret, open] = await Promise.all([exportJWK(keys.privateKey), exportJWK(keys.publicKey)]);
  return { kid, secret: { kid, alg, ...secret } as JWK, open: { kid, alg, ...open } as JWK };
}
type Pair = Awaited<ReturnType<typeof pair>>;
const ed = await pair("EdDSA", "k1");
const ec = await pair("ES256", "k2");
const stranger = await pair("EdDSA", "k1");

let time = START;
const now = () => time;
const verifierOf = (pairs: Pair[]) => {
  const keys = pairs.map(({ open }) => open);
  return createTokenVerifier(keys, SETTINGS, now);
};
const verify = await verifierOf([ed, ec]);
const accepted = async (tokens: readonly (string | Promise<string>)[]) => {
  const answers = await Promise.all(tokens.map(async (token) => [token, await verify(await token)] as const));
  return answers.filter(([, answer]) => answer !== undefined);
};

async function issue(by: Pair, settings: object = {}, principal = ada): Promise<string> {
  const issuer = await createTokenIssuer(by.secret, { ...SETTINGS, lifetime: LIFETIME, ...settings }, now);
  return (await issuer(principal)).token;
}

/** A token as anybody could write it who has this key, and with ours the genuine one but for the changes. */
function forge(header = {}, payload = {}, key: JWK | Uint8Array = ed.secret): Promise<string> {
  const token = new SignJWT(JSON.parse(JSON.stringify({ ...all, ...payload })));
  const genuine = { alg: "EdDSA", kid: "k1", typ: "at+jwt" };
  return token.setProtectedHeader({ ...genuine, ...header } as typeof genuine).sign(key);
}
const encoder = new TextEncoder();
const encode = (value: object): string => base64url.encode(JSON.stringify(value));

afterEach(() => {
  vi.restoreAllMocks();
  time = START;
});

test("a token of either algorithm speaks for whom it was issued to, and says nothing more than it must", async () => {
  for (const [alg, by] of Object.entries({ EdDSA: ed, ES256: ec })) {
    const token = await issue(by);
    expect(await verify(token)).toEqual(caller);
    const [header, payload] = token.split(".").map((part) => Buffer.from(part, "base64url").toString());
    expect(JSON.parse(header as string)).toEqual({ alg, kid: by.kid, typ: "at+jwt" });
    expect(JSON.parse(payload as string)).toEqual({ ...all, jti: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(await issue(by)).not.toBe(token);
  }
  expect(TOKEN_ALGORITHMS).toEqual(["EdDSA", "ES256"]);
  expect(await verify(await forge())).toEqual(caller);
});

test("a token of the previous key is accepted while its public half is configured, and refused after", async () => {
  const [previous, current] = [await pair("EdDSA", "old"), await pair("ES256", "new")];
  const tokens = [await issue(previous), await issue(current)];
  const answers = async (...configured: Pair[]) => Promise.all(tokens.map(await verifierOf(configured)));
  expect(await answers(previous)).toEqual([caller, undefined]);
  expect(await answers(current, previous)).toEqual([caller, caller]);
  expect(await answers(current)).toEqual([undefined, caller]);
});

test("a token that another key signed is refused, under our key id or with a key of its own choice in it", async () => {
  const [jwk, jku] = [stranger.open, "https://evil.test/jwks.json"];
  const headers = [{}, { jwk }, { jku, x5u: jku }, { jwk, kid: undefined }];
  expect(await accepted(headers.map((header) => forge(header, {}, stranger.secret)))).toEqual([]);
});

test("a public key is no HMAC secret, in whatever form an attacker writes its bytes", async () => {
  for (const { open, kid } of [ed, ec]) {
    const key = createPublicKey({ key: open as never, format: "jwk" });
    const pem = key.export({ type: "spki", format: "pem" }) as string;
    const der = key.export({ type: "spki", format: "der" });
    const x = open.x as string;
    const forms = [
      der,
      Buffer.from(x, "base64url"),
      ...[x, pem, JSON.stringify(open)].map((one) => encoder.encode(one)),
    ];
    const tokens = forms.flatMap((one) =>
      ["HS256", "HS512"].map((alg) => forge({ alg, kid }, {}, new Uint8Array(one))),
    );
    expect(await accepted(tokens)).toEqual([]);
  }
});

test("a token without a signature is refused, however its algorithm is written", async () => {
  const [header, payload, signature] = (await issue(ed)).split(".");
  expect(await accepted([`${header}.${payload}.`, `${header}.${payload}`])).toEqual([]);
  for (const alg of ["none", "None", "NONE", "nOnE", "", null, undefined, 0, []]) {
    const unsigned = `${encode({ alg, kid: "k1", typ: "at+jwt" })}.${payload}`;
    expect(await accepted([unsigned, `${unsigned}.`, `${unsigned}.${signature}`])).toEqual([]);
  }
});

test("an algorithm that is not pinned is refused, and a pinned one under the id of another's key", async () => {
  const others = await Promise.all(["RS256", "PS256", "ES384", "Ed25519"].map((alg) => pair(alg, "x")));
  const tokens = others.map(({ secret }) => forge({ alg: secret.alg as string }, {}, secret));
  expect(await accepted(tokens)).toEqual([]);
  expect(await accepted([forge({ alg: "ES256" }, {}, ec.secret), forge({ kid: "k2" })])).toEqual([]);
});

test("a header must name a known key and the type of an access token, and demand nothing unknown", async () => {
  const kids = [undefined, "", "K1", "k1 ", "k3", "__proto__", "../k1"].map((kid) => ({ kid }));
  const types = [undefined, "", "JWT", "jwt", "at+JWTx", "id+jwt"].map((typ) => ({ typ }));
  expect(await accepted([...kids, ...types].map((header) => forge(header)))).toEqual([]);
  const [, payload, signature] = (await issue(ed)).split(".");
  const critical = encode({ alg: "EdDSA", kid: "k1", typ: "at+jwt", crit: ["x"], x: 1 });
  expect(await verify(`${critical}.${payload}.${signature}`)).toBeUndefined();
});

test("a token of another issuer or for another audience is refused", async () => {
  const others = ["", "Latchkey", "latchkey2", "API", "api "];
  expect(await accepted(others.map((issuer) => issue(ed, { issuer })))).toEqual([]);
  expect(await accepted([...others, "latchkey"].map((audience) => issue(ed, { audience })))).toEqual([]);
  const payloads = [{ iss: ["latchkey"] }, { iss: null }, { aud: ["x"] }, { aud: [] }, { aud: { api: 1 } }];
  expect(await accepted(payloads.map((payload) => forge({}, payload)))).toEqual([]);
});

test("a token that lacks one of its claims is refused", async () => {
  const names = Object.keys(all);
  expect([...names].sort().join()).toBe("aud,epoch,exp,iat,iss,jti,role,sub,tenant_id");
  expect(await accepted(names.map((claim) => forge({}, { [claim]: undefined })))).toEqual([]);
});

test("a claim of the wrong shape is refused although the signature is right", async () => {
  const [id, long] = [ada.userId, "a".repeat(64)];
  const wrong: Record<string, unknown[]> = {
    sub: ["", "usr_", "ada", "key_0123456789abcdef", `${id}0`, `${id}\n`, 1, null],
    tenant_id: ["", "Tenant1", "tenant1\n", "tenant1}", long, 1, null, ["tenant1"]],
    role: ["", "root", "Admin", "__proto__", null, ["admin"]],
    epoch: [-1, 1.5, "3", null, 2 ** 53],
    exp: [String(all.exp), all.exp + 0.5, null, 2 ** 53],
    iat: ["now"],
    nbf: [START / 1000 + TOLERANCE + 1, "now"],
  };
  for (const [claim, values] of Object.entries(wrong)) {
    expect(await accepted(values.map((value) => forge({}, { [claim]: value })))).toEqual([]);
  }
});

test("a token expires to the millisecond, five seconds after its exp, whether it is remembered or not", async () => {
  const token = await issue(ed);
  const end = START + (LIFETIME + TOLERANCE) * 1000;
  const remembering = await verifierOf([ed]);
  expect(await remembering(token)).toEqual(caller);
  for (const at of [START, end - 1000, end - 1, end, end + 1, end + 86_400_000]) {
    time = at;
    const expected = at < end ? caller : undefined;
    expect(await (await verifierOf([ed]))(token)).toEqual(expected);
    expect(await remembering(token)).toEqual(expected);
  }
});

test("no bit of a token can be flipped, in its header, payload or signature", async () => {
  for (const token of [await issue(ed), await issue(ec)]) {
    const parts = token.split(".").map((part) => Buffer.from(part, "base64url"));
    const flipped = parts.flatMap((part, index) =>
      Array.from({ length: part.length * 8 }, (_, bit) => {
        const copy = Buffer.from(part);
        copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        return parts.map((one, i) => (i === index ? copy : one).toString("base64url")).join(".");
      }),
    );
    expect(flipped.length).toBeGreaterThan(2000);
    expect(await accepted(flipped)).toEqual([]);
    expect(await verify(token)).toEqual(caller);
  }
});

test("parts of two valid tokens do not make a third", async () => {
  const [header, payload, signature] = (await issue(ed)).split(".");
  const [, other, otherSignature] = (await issue(ed, {}, { ...ada, tenantId: "tenant2" })).split(".");
  const mixed = [`${header}.${other}.${signature}`, `${header}.${payload}.${otherSignature}`];
  expect(await accepted(mixed)).toEqual([]);
});

test("a text that is no token is answered without an exception", async () => {
  const token = await issue(ed);
  const known = ["", "e30", "bnVsbA", "W10", "\ud800", encode({ alg: "EdDSA", kid: "k1" }), token];
  const json = fc.json().map((text) => base64url.encode(text));
  const part = fc.oneof(fc.string({ unit: "binary" }), json, fc.constantFrom(...known, ...token.split(".")));
  const joined = fc.array(part, { minLength: 2, maxLength: 5 }).map((parts) => parts.join("."));
  const cut = fc.nat(token.length - 1).map((length) => token.slice(0, length));
  const text = fc.oneof(part, joined, cut).filter((text) => text !== token);
  const property = fc.asyncProperty(text, async (text) => {
    expect(await verify(text)).toBeUndefined();
  });
  await fc.assert(property, { numRuns: 500, examples: [["."], [".."], ["a.b.c"], [".".repeat(4096)]] });
});

test("a valid token is checked once and remembered; a forged one is checked every time", async () => {
  const checks = vi.spyOn(crypto.subtle, "verify");
  const verify = await verifierOf([ed]);
  const [valid, forged] = [await issue(ed), await issue(stranger)];
  for (let i = 0; i < 3; i += 1)
    expect([await verify(valid), await verify(forged)]).toEqual([caller, undefined]);
  expect(checks).toHaveBeenCalledTimes(1 + 3);
});

test("at most 10,000 tokens are remembered, the oldest goes first, and no number of forged ones pushes any out", async () => {
  const right = vi.spyOn(crypto.subtle, "verify").mockResolvedValue(true);
  const verify = await verifierOf([ed]);
  const header = encode({ alg: "EdDSA", kid: "k1", typ: "at+jwt" });
  const tokenOf = (jti: number): string => `${header}.${encode({ ...all, jti })}.c2lnbmF0dXJl`;
  const isRemembered = async (jti: number) => {
    right.mockClear();
    expect(await verify(tokenOf(jti))).toEqual(caller);
    return right.mock.calls.length === 0;
  };
  for (let jti = 1; jti <= REMEMBERED; jti += 1) await verify(tokenOf(jti));
  right.mockResolvedValue(false);
  for (let jti = 1; jti <= REMEMBERED; jti += 1) await verify(tokenOf(-jti));
  right.mockResolvedValue(true);
  expect([await isRemembered(1), await isRemembered(REMEMBERED)]).toEqual([true, true]);
  await verify(tokenOf(REMEMBERED + 1));
  expect([await isRemembered(1), await isRemembered(REMEMBERED + 1)]).toEqual([false, true]);
});
