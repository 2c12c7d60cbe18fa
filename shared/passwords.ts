/** Password hashing as functions see it; the work itself is in shared/node/passwords.ts. */
export interface PasswordHasher {
  /** An argon2id hash in PHC string format. @param owner whose share of the machine it takes */
  hash(password: string, owner: string): Promise<string>;
  /**
   * Whether the password matches. Without a stored hash the same work is done against one that nothing matches,
   * so that an unknown user takes as long as a wrong password.
   * @returns outdated: the hash was made with other parameters than today's
   * @throws {Problem} overloaded when too many are waiting, of all owners or of this one
   */
  verify(
    password: string,
    storedHash: string | undefined,
    owner: string,
  ): Promise<{ matches: boolean; outdated: boolean }>;
}
