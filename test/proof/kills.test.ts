import t from 'tap';
import { prove } from './kills.ts';
import { testProof } from './proof.ts';

t.test('killed at any moment', { timeout: 170_000 }, (t) => testProof(t, prove));
