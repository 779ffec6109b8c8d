import t from 'tap';
import { prove } from './gateway-drain.ts';
import { testProof } from './proof.ts';

t.test('SIGTERM under load', { timeout: 120_000 }, (t) => testProof(t, prove));
