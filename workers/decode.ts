// Thread entry: the CPU stage of one request, as a task of the decode pool. Memory moves, it is not copied.

import { constants, getPriority, setPriority } from 'node:os';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { SpillwayError, toErrorMessage } from '../src/base/errors.ts';
import { decodeRequest, type DecodeTask } from '../src/codec/request.ts';
import type { DecodeReply } from '../src/ingress/decode-pool.ts';
import { DECODE_NICE } from '../src/base/limits.ts';

// On Linux that is the thread's own; elsewhere it would be that of the process.
if (process.platform === 'linux') setPriority(Math.min(getPriority() + DECODE_NICE, constants.priority.PRIORITY_LOW));

/** An error that is not ours is a fault of the thread: Piscina hands it on. */
function reply(task: DecodeTask): DecodeReply {
  try {
    return { decoded: decodeRequest(task) };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return { error: toErrorMessage(error) };
  }
}

export default function decode(task: DecodeTask): unknown {
  const value = reply(task);
  const memory = 'decoded' in value ? [value.decoded.body.buffer, value.decoded.ranges.buffer] : [];
  return move({ [transferableSymbol]: memory, [valueSymbol]: value });
}
