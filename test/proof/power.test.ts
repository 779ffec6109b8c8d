import t from 'tap';
import { prove } from './power.ts';
import { testProof } from './proof.ts';

t.test('cut off at any moment', { timeout: 170_000 }, (t) => testProof(t, prove));
