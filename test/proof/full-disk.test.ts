// The quick run of the proof of full disks and limited memory.

import t from 'tap';
import { prove } from './full-disk.ts';
import { testProof } from './proof.ts';

t.test('full disks', { timeout: 120_000 }, (t) => testProof(t, prove));
