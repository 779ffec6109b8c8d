// The quick run of the model proof.

import t from 'tap';
import { prove } from './model.ts';
import { testProof } from './proof.ts';

t.test('model', (t) => testProof(t, prove));
