/** Stop on SIGTERM (Kubernetes) and SIGINT (Ctrl-C), once; a second signal does not wait. */
export function onSignal(stop: (signal: string) => Promise<number>): void {
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stopping) process.exit(1);
      stopping = true;
      stop(signal).then(process.exit, () => process.exit(1));
    });
  }
}
