import t from 'tap';
import { prove } from './gateway-kills.ts';
import { testProof } from './proof.ts';

t.test('a gateway killed at any moment', { timeout: 120_000 }, (t) => testProof(t, prove));
