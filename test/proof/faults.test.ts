import t from 'tap';
import { prove } from './faults.ts';
import { testProof } from './proof.ts';

t.test('every error at every call', { timeout: 240_000 }, (t) => testProof(t, prove));
