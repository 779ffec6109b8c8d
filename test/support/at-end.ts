// What a process does last: when it exits, and when a signal tells it to end. After a SIGKILL it does nothing.

const actions: (() => void)[] = [];

function actAll(): void {
  for (const action of actions.splice(0)) {
    try {
      action();
    } catch {
      // The others too.
    }
  }
}
process.once('exit', actAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    actAll();
    process.kill(process.pid, signal);
  });
}

export function atEnd(action: () => void): void {
  actions.push(action);
}
