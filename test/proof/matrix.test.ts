// The quick run of the proof of Node versions.

import t from 'tap';
import { prove } from './matrix.ts';
import { testProof } from './proof.ts';

t.test('Node versions and I/O modes', { timeout: 120_000 }, (t) => testProof(t, prove));
