/** A reason to give up that a person can act on: shown as one sentence, without a stack. */
export class Failure extends Error {
  override readonly name = "Failure";
}

/** One sentence for what commonly goes wrong on a machine. */
export function sentenceFor(error: unknown, env: NodeJS.ProcessEnv): string {
  const port = env["PORT"] || 8080;
  const { code, path } = error as { code?: string; path?: string };
  if (code === "EADDRINUSE") return `Port ${port} is in use. Set PORT to a free one, such as PORT=8081.`;
  if (code === "EACCES" && path === undefined)
    return `Port ${port} needs more rights. Set PORT to one above 1023.`;
  if (code === "ENOSPC") return `The disk is full: cannot write ${path ?? "the data folder"}.`;
  if (code === "EACCES" || code === "EROFS" || code === "EPERM")
    return `Cannot write ${path ?? "the data folder"}.`;
  return error instanceof Error ? error.message : String(error);
}
