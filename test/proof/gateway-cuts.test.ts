import t from 'tap';
import { prove } from './gateway-cuts.ts';
import { testProof } from './proof.ts';

t.test('connections cut between commit and answer', { timeout: 120_000 }, (t) => testProof(t, prove));
