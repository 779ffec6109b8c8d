// The targets that run in JavaScript, in the order of the table.

import fc from 'fast-check';
import type { Target } from '../target.ts';
import { access } from './access.ts';
import { batches } from './batches.ts';
import { config } from './config.ts';
import { frames } from './frames.ts';
import { indexes } from './index.ts';
import { request } from './request.ts';

export const targets: readonly Target[] = [request, frames, batches, indexes, config, access];

/** For the test of the watchdog: what they stand for does not come back, or ends its process. */
const broken = (name: string, run: () => void): Target => ({
  name,
  promise: name,
  maxBytes: 8,
  quick: 0,
  leastCovered: 0,
  dictionary: [],
  structured: fc.uint8Array({ maxLength: 8 }),
  run,
});

export const brokenTargets: readonly Target[] = [
  broken('hang', () => {
    for (;;);
  }),
  broken('die', () => process.abort()),
];
