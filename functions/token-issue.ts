// Who may have a JWT? Whoever knows the username and password of an active account.
// Costs one argon2id verification, whether or not the user exists, and four Redis round trips.
// Promises: the same answer in the same time for an unknown user and a wrong password, and never more guesses
// inside the window than the limits allow, however many arrive at once.
import * as z from "zod";
import { defineFunction } from "../shared/function.ts";
import { secret } from "../shared/secrets.ts";

export const request = {
  form: true,
  body: z.strictObject({
    grant_type: z.literal("password").optional(),
    username: z.string().min(1).max(256),
    password: secret(z.string().min(1).max(1024)),
  }),
} as const;

export const reply = z.object({
  access_token: secret(z.string()),
  token_type: z.literal("bearer"),
  /** Seconds. */
  expires_in: z.int().positive(),
});

export default defineFunction(
  "token-issue",
  { needs: ["logins", "passwords", "issueToken"], request, reply },
  async ({ body }, call, { logins, passwords, issueToken }) => {
    const attempt = await logins.begin(body.username, call.sourceIp);
    const { matches, outdated } = await passwords.verify(body.password, attempt.passwordHash, body.username);
    if (!matches) throw await logins.fail(call, attempt);
    const newHash = outdated ? await passwords.hash(body.password, body.username) : undefined;
    const { token, expiresIn } = await issueToken(await logins.succeed(call, attempt, newHash));
    return {
      status: 200,
      body: { access_token: token, token_type: "bearer" as const, expires_in: expiresIn },
    };
  },
);
