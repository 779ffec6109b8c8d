import t from 'tap';
import { prove } from './corruption.ts';
import { testProof } from './proof.ts';

t.test('corruption tables, quick', { timeout: 240_000 }, (t) => testProof(t, prove));
