// The quick run of the lifecycle proof.

import t from 'tap';
import { prove } from './lifecycle.ts';
import { testProof } from './proof.ts';

t.test('lifecycle', (t) => testProof(t, prove));
