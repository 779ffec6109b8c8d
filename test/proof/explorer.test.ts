import t from 'tap';
import { prove } from './explorer.ts';
import { testProof } from './proof.ts';

t.test('crash explorer, quick', { timeout: 120_000 }, (t) => testProof(t, prove));
