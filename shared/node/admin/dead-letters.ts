/** What the audit pipeline could not deliver: looking at it, and sending it again. Lists are JSON lines. */
import * as z from "zod";
import { newAttempt, reasonClass, reasonOf } from "../../dead-letter.ts";
import { tenantId } from "../../formats.ts";
import { createDeadLetters, type KeptLetter } from "../../redis/dead-letters.ts";
import { createOutbox } from "../../redis/outbox.ts";
import { command, Refusal } from "./command.ts";

/** Letters that are listed unless more are asked for, and at most. */
const COUNT = { byDefault: 20, max: 10_000 };
/** Characters of a body that a list shows. */
const SHOWN = 1_024;
/** Milliseconds: a broker that is not asynchronous answers after its consumers, their retries included. */
const SINK_TIMEOUT = 60_000;

const count = z
  .string()
  .regex(/^[1-9]\d{0,4}$/)
  .transform(Number)
  .pipe(z.number().max(COUNT.max));

export const listDeadLetters = command(
  "[count]",
  z.union([z.tuple([]), z.tuple([count])]),
  async function* ([wanted = COUNT.byDefault], { store }) {
    for await (const letter of createDeadLetters(store).newest(wanted)) yield JSON.stringify(shown(letter));
  },
);

const shown = (letter: KeptLetter) => ({
  id: letter.id,
  at: letter.at,
  class: reasonClass(letter),
  reason: reasonOf(letter),
  attributes: letter.attributes,
  content_type: letter.contentType,
  bytes: letter.bytes,
  cut: letter.cut,
  encoding: letter.encoding,
  body: letter.body.slice(0, SHOWN).toWellFormed(),
});

export const resendDeadLetter = command(
  "<id>, to K_SINK",
  z.tuple([z.string().regex(/^\d{1,16}-\d{1,10}$/)]),
  async function* ([id], { store, sink }) {
    if (!sink) throw new Refusal("K_SINK is missing");
    const letters = createDeadLetters(store);
    const letter = await letters.find(id);
    if (letter === undefined) throw new Refusal("There is no such dead letter");
    const sent = newAttempt(letter);
    if ("refused" in sent) throw new Refusal(`It cannot be sent again: ${sent.refused}`);
    const status = await post(sink, sent.headers, sent.body);
    if (status < 200 || status > 299)
      throw new Refusal(`The sink answered ${status}; the dead letter is kept`);
    await letters.remove(id);
    yield `Sent the event again, attempt ${sent.attempt}; the sink answered ${status}, and the dead letter is gone`;
  },
);

async function post(sink: string, headers: Record<string, string>, body: BodyInit): Promise<number> {
  const signal = AbortSignal.timeout(SINK_TIMEOUT);
  try {
    const response = await fetch(sink, { method: "POST", headers, body, signal, redirect: "manual" });
    await response.body?.cancel();
    return response.status;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new Refusal(
      `The sink did not answer (${cause instanceof Error ? cause.message : cause}): the event may have arrived, and the dead letter is kept`,
    );
  }
}

export const quarantined = command("<tenant>", z.tuple([tenantId]), async function* ([tenant], { store }) {
  const outbox = createOutbox(store);
  if (!(await outbox.hasTenant(tenant))) throw new Refusal("There is no such tenant");
  for await (const kept of outbox.quarantined(tenant)) yield kept;
});
