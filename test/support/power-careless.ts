// Child of the proof `power`, as a control: says that a block is safe as soon as it is written, without a sync. argv: path.

import { openSync, writeSync } from 'node:fs';
import { tell } from './kill-protocol.ts';

export const CARELESS_BLOCK_BYTES = 4096;

export function carelessBlock(i: number): Buffer {
  return Buffer.alloc(CARELESS_BLOCK_BYTES, `block ${i};`);
}

if (process.argv[2] !== undefined && import.meta.filename === process.argv[1]) {
  try {
    const fd = openSync(process.argv[2], 'wx');
    for (let i = 0; ; i++) {
      writeSync(fd, carelessBlock(i), 0, CARELESS_BLOCK_BYTES, i * CARELESS_BLOCK_BYTES);
      tell('a', i, i, 0, i, 1);
    }
  } catch (error) {
    tell('e', (error as { code?: string }).code ?? String(error));
  }
}
