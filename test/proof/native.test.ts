import t from 'tap';
import { prove } from './native.ts';
import { testProof } from './proof.ts';

t.test('C++ under sanitizers', { timeout: 170_000 }, (t) => testProof(t, prove));
