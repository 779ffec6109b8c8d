// What every public call gives in every state of a log: one table, the contract of the lifecycle.
//
//   ok          it resolves, or returns
//   waits, ok   it resolves once the state is left (space has returned, the log is closed), not before
//   CODE        it rejects, or throws, with this code
//   –           it cannot be called: there is no handle yet
//
// States: `full` is a disk without room for the next segment; `draining` lies between the call of close and its end;
// `poisoned` came from a durable write that failed; `died`: the commit thread was ended. `…, closed` is the same after close.

const text = `
call            | opening | open      | full      | draining | closed | poisoned | poisoned, closed | died        | died, closed
open            | LOCKED  | LOCKED    | LOCKED    | LOCKED   | ok     | LOCKED   | ok               | ok          | ok
append          | –       | ok        | waits, ok | CLOSED   | CLOSED | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
appendMany      | –       | ok        | waits, ok | CLOSED   | CLOSED | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
flush           | –       | ok        | waits, ok | CLOSED   | CLOSED | POISONED | CLOSED           | WORKER_DIED | CLOSED
read            | –       | ok        | ok        | ok       | ok     | ok       | ok               | ok          | ok
read, following | –       | waits, ok | waits, ok | ok       | ok     | ok       | ok               | ok          | ok
read elsewhere  | ok      | ok        | ok        | ok       | ok     | ok       | ok               | ok          | ok
truncateBefore  | –       | ok        | ok        | CLOSED   | CLOSED | POISONED | CLOSED           | WORKER_DIED | CLOSED
lane            | –       | ok        | ok        | CLOSED   | CLOSED | ok       | CLOSED           | ok          | CLOSED
stats           | –       | ok        | ok        | ok       | ok     | ok       | ok               | ok          | ok
openLane        | –       | ok        | ok        | ok       | ok     | ok       | ok               | ok          | ok
lane.append     | –       | ok        | waits, ok | CLOSED   | CLOSED | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
lane.appendMany | –       | ok        | waits, ok | CLOSED   | CLOSED | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
lane.close      | –       | ok        | waits, ok | ok       | ok     | ok       | ok               | ok          | ok
close           | –       | ok        | DISK_FULL | ok       | ok     | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
close again     | –       | ok        | DISK_FULL | ok       | ok     | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
asyncDispose    | –       | ok        | DISK_FULL | ok       | ok     | POISONED | POISONED         | WORKER_DIED | WORKER_DIED
`;

const lines = text
  .trim()
  .split('\n')
  .map((line) => line.split('|').map((word) => word.trim()));

export const states = lines[0].slice(1);
export const calls = lines.slice(1).map(([call]) => call);

/** What the table says; undefined where the call cannot be made. */
export function expected(call: string, state: string): string | undefined {
  const row = lines.find(([name]) => name === call);
  const word = row?.[lines[0].indexOf(state)];
  if (word === undefined) throw new Error(`the table has no cell for ${call} in ${state}`);
  return word === '–' ? undefined : word;
}
