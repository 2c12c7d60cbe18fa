// Who am I signed in as? Answers the calling user's own record. One Redis round trip.
import { defineFunction } from "../shared/function.ts";
import { userView } from "../shared/users.ts";

export const reply = userView;

export default defineFunction(
  "users-me",
  { needs: ["users"], request: {}, reply },
  async (_, call, { users }) => {
    return { status: 200, body: await users.me(call) };
  },
);
