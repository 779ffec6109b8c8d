// Remembers what clients of a gateway sent and what they were answered, through many deaths of it, and compares the log with it:
//  - every answered record is at its offset, byte for byte; those of one request in their order;
//  - every record is one that somebody sent, and no record is there twice: nobody here sends one under two names;
//  - what a request that must not be there carried is not.

import { read } from '../../src/index.ts';

const MAX_FILLER = 400;

/** Known to whoever sends and whoever checks, different for every record; JSON without a newline, so that it fits every shape. */
export function payloadOf(client: number, n: number): string {
  const spread = ((n + 7 * client) * 2654435761) >>> 0;
  const length = n % 97 === 0 ? 6000 : spread % MAX_FILLER;
  return `{"c":${client},"n":${n},"f":"${String.fromCharCode(97 + (spread % 26)).repeat(length)}"}`;
}

/** Undefined where the bytes are not exactly those of a record that somebody may have sent. */
function originOf(payload: Uint8Array): { client: number; n: number } | undefined {
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('latin1');
  const match = /^\{"c":(\d{1,6}),"n":(\d{1,9}),/.exec(text);
  if (match === null) return undefined;
  const origin = { client: Number(match[1]), n: Number(match[2]) };
  return payloadOf(origin.client, origin.n) === text ? origin : undefined;
}

export const streamOf = (client: number): string => `client-${client % 10}`;

/** Number for a record: for maps. */
const keyOf = (client: number, n: number): number => client * 2 ** 32 + n;

interface Answered {
  readonly client: number;
  readonly n: number;
  readonly records: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
}

export class GatewayWitness {
  /** Records that a client has sent so far. */
  readonly #sent = new Map<number, number>();
  readonly #answered: Answered[] = [];
  readonly #refused: { readonly client: number; readonly n: number; readonly records: number; readonly why: string }[] =
    [];
  readonly #offsets = new Map<number, number>();
  #looked = 0;
  #next = 0;
  readonly violations: string[] = [];
  answeredRecords = 0;

  /** Names for the next records of a client: from now on they may be there. */
  take(client: number, records: number): number {
    const n = this.#sent.get(client) ?? 0;
    this.#sent.set(client, n + records);
    return n;
  }

  /** They are durable, somebody was told. */
  answered(client: number, n: number, records: number, firstOffset: number, lastOffset: number): void {
    this.answeredRecords += records;
    const possible = Number.isSafeInteger(firstOffset) && firstOffset >= 0 && lastOffset - firstOffset + 1 >= records;
    if (possible) this.#answered.push({ client, n, records, firstOffset, lastOffset });
    else this.#say(`${records} records cannot be at offsets ${firstOffset} to ${lastOffset}`);
  }

  /** They must not be there. @param why for the violation */
  refused(client: number, n: number, records: number, why: string): void {
    this.#refused.push({ client, n, records, why });
  }

  /** Records found so far. */
  get found(): number {
    return this.#offsets.size;
  }

  get sent(): number {
    return [...this.#sent.values()].reduce((sum, n) => sum + n, 0);
  }

  /** Reads what came since the last look, or all of it once more, and compares. */
  async check(dir: string, when: string, again = false): Promise<void> {
    if (again) {
      this.#next = 0;
      this.#looked = 0;
      this.#offsets.clear();
    }
    try {
      for await (const { offset, stream, payload } of read({ dir, from: this.#next })) {
        if (offset !== this.#next) this.#say(`${when}: offset ${offset} follows ${this.#next - 1}`);
        this.#next = offset + 1;
        const origin = originOf(payload);
        if (origin === undefined) this.#say(`${when}: offset ${offset} holds bytes that nobody sent`);
        else this.#take(origin.client, origin.n, offset, stream, when);
      }
    } catch (error) {
      this.#say(`${when}: reading the log: ${(error as Error).message}`);
    }
    for (; this.#looked < this.#answered.length; this.#looked++) this.#compare(this.#answered[this.#looked], when);
    for (const { client, n, records, why } of this.#refused) {
      for (let i = n; i < n + records; i++) {
        const offset = this.#offsets.get(keyOf(client, i));
        if (offset !== undefined) this.#say(`${when}: record ${client}:${i} is at ${offset}, and ${why}`);
      }
    }
  }

  /** How many of these are in the log. */
  present(client: number, n: number, records: number): number {
    let there = 0;
    for (let i = n; i < n + records; i++) if (this.#offsets.has(keyOf(client, i))) there++;
    return there;
  }

  #take(client: number, n: number, offset: number, stream: string, when: string): void {
    const name = `record ${client}:${n}`;
    if (n >= (this.#sent.get(client) ?? 0)) this.#say(`${when}: ${name} at ${offset} was never sent`);
    if (stream !== streamOf(client)) this.#say(`${when}: ${name} at ${offset} is in stream ${stream}`);
    const before = this.#offsets.get(keyOf(client, n));
    if (before !== undefined) this.#say(`${when}: ${name} is there twice, at ${before} and ${offset}`);
    else this.#offsets.set(keyOf(client, n), offset);
  }

  #compare({ client, n, records, firstOffset, lastOffset }: Answered, when: string): void {
    let last = -1;
    for (let i = 0; i < records; i++) {
      const offset = this.#offsets.get(keyOf(client, n + i)) ?? -1;
      const fits = offset > last && (i > 0 || offset === firstOffset) && (i < records - 1 || offset === lastOffset);
      if (!fits) {
        const place = offset < 0 ? 'is not there' : `is at ${offset}`;
        this.#say(`${when}: record ${client}:${n + i}, answered as one of ${firstOffset} to ${lastOffset}, ${place}`);
        return;
      }
      last = offset;
    }
  }

  #say(violation: string): void {
    this.violations.push(violation);
  }
}
