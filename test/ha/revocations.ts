/** Keys that were revoked, used again and again: whatever happens to Redis, they stay refused. */
import { setTimeout as sleep } from "node:timers/promises";
import { send } from "../support/process.ts";

/** Milliseconds between two uses. */
const PAUSE = 50;
/** Revoked keys that are remembered; the newest one is used every other time, because its end is replicated last. */
const REMEMBERED = 200;

/** @param held resolves when the next request may be sent */
export function startRevocations(token: string, origins: readonly string[], held: () => Promise<void>) {
  const revoked: string[] = [];
  const life = { stopping: false, uses: 0, slowest: 0 };
  const wrong: string[] = [];

  async function revoke(origin: string): Promise<void> {
    const created = await send(origin, "POST", "/api-keys", { as: token, json: { name: "to be revoked" } });
    if (created.status !== 201) return;
    const { key_id: id, key_value: text } = created.body;
    const deleted = await send(origin, "DELETE", `/api-keys/${id}`, { as: token });
    if (deleted.status !== 204) return;
    revoked.push(text);
    if (revoked.length > REMEMBERED) revoked.shift();
  }

  async function use(origin: string): Promise<void> {
    const random = Math.random();
    const text = random < 0.5 ? revoked.at(-1) : revoked[Math.floor(random * revoked.length)];
    if (text === undefined) return;
    const began = performance.now();
    const { status } = await send(origin, "GET", "/data/no-such-item", { as: text });
    life.slowest = Math.max(life.slowest, performance.now() - began);
    life.uses += 1;
    if (status !== 401 && status !== 503) wrong.push(`a revoked key was answered ${status}`);
  }

  const loops = origins.flatMap((origin) =>
    [revoke, use].map(async (step) => {
      while (!life.stopping) {
        await step(origin).catch((error) => wrong.push(`no answer: ${error}`));
        await sleep(PAUSE);
        await held();
      }
    }),
  );
  return {
    wrong,
    uses: () => life.uses,
    slowest: () => life.slowest,
    async stop() {
      life.stopping = true;
      await Promise.all(loops);
    },
  };
}
