// Another process that reads a log while it is written, on a disk that may be full: child of test/proof/full-disk.ts.
// Each message { id, dir, from } is answered with what is there: { id, sequences } by offset from `from` on, every payload
// compared byte for byte with what its head says it is; or { id, wrong }.

import { read } from '../../src/index.ts';
import { payloadOf } from './full-disk-payload.ts';

export interface ReadRequest {
  readonly id: number;
  readonly dir: string;
  /** First offset wanted; the oldest there is when undefined. */
  readonly from?: number;
}

export type ReadAnswer =
  | { readonly id: number; readonly first: number; readonly names: readonly string[] }
  | { readonly id: number; readonly wrong: string };

/** `run:sequence` of a record, or undefined where its bytes are not those that were appended under that name. */
export function nameOf(payload: Uint8Array): string | undefined {
  const [run, sequence] = Buffer.from(payload).toString('latin1', 0, 24).split(':');
  return payloadOf(Number(run), Number(sequence)).equals(payload) ? `${run}:${sequence}` : undefined;
}

async function answer({ id, dir, from }: ReadRequest): Promise<ReadAnswer> {
  const names: string[] = [];
  let first = from ?? -1;
  try {
    for await (const { offset, payload } of read({ dir, ...(from === undefined ? {} : { from }) })) {
      if (first < 0) first = offset;
      const name = nameOf(payload);
      if (name === undefined) return { id, wrong: `offset ${offset} holds bytes that were never appended` };
      if (offset !== first + names.length) return { id, wrong: `offset ${offset} follows ${first + names.length - 1}` };
      names.push(name);
    }
    return { id, first, names };
  } catch (error) {
    return { id, wrong: String(error) };
  }
}

if (process.send !== undefined) {
  process.on('message', (request: ReadRequest) => void answer(request).then((a) => process.send!(a)));
  process.on('disconnect', () => process.exit());
}
