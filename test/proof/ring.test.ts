// The quick run of the ring proof.

import t from 'tap';
import { testProof } from './proof.ts';
import { prove } from './ring.ts';

t.test('ring', (t) => testProof(t, prove));
