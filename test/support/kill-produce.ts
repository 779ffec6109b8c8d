// Producers under load on one lane: several at once, each appending one record or a group after the other and telling of
// every answer, until the log closes or fails.

import type { Lane } from '../../src/index.ts';
import { payloadOf, streamOf, tell } from './kill-protocol.ts';

/** @returns the code that ended them: CLOSED where the log was closed */
export async function produce(
  to: Pick<Lane, 'appendMany'>,
  run: number,
  lane: number,
  producers: number,
  onAck: (lastOffset: number) => void = () => undefined,
): Promise<string> {
  let next = 0;
  let ended: string | undefined;
  const one = async (): Promise<void> => {
    while (ended === undefined) {
      const first = next;
      const count = first % 7 === 0 ? 1 + (first % 40) : 1;
      next += count;
      const payloads = Array.from({ length: count }, (_, i) => payloadOf({ run, lane, sequence: first + i }));
      try {
        const { firstOffset, lastOffset } = await to.appendMany(streamOf(lane), payloads);
        tell('a', firstOffset, lastOffset, lane, first, count);
        onAck(lastOffset);
      } catch (error) {
        const code = (error as { code?: string }).code ?? String(error);
        tell('r', lane, first, code);
        ended ??= code;
      }
    }
  };
  await Promise.all(Array.from({ length: producers }, one));
  return ended ?? 'CLOSED';
}
