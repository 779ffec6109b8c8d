// The C++ side by itself, as CMake builds it: its tests plain and under AddressSanitizer, UndefinedBehaviorSanitizer and
// ThreadSanitizer (scripts/test-native.sh).

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../support/platform-root.ts';
import { skip, type Claim, type ProofContext } from './proof.ts';

const CLAIM = 'the C++ tests pass, plain and under ASan, UBSan and TSan';
/** Four test programs, four builds. */
const AT_LEAST = 16;

export async function prove(_context?: ProofContext): Promise<Claim[]> {
  if (spawnSync('cmake', ['--version']).status !== 0) return [skip(CLAIM, 'test programs', 'cmake is not installed')];
  const { stdout, stderr, status } = spawnSync('sh', [join(root, 'scripts', 'test-native.sh')], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  const lines = stdout.split('\n').filter((line) => /Test +#\d+:/.test(line));
  const failed = lines.filter((line) => !line.includes('Passed'));
  if (status !== 0 && failed.length === 0)
    failed.push(`scripts/test-native.sh ended with ${status}: ${stderr.slice(-500)}`);
  const violations = failed.map((line) => `${line.trim()}; npm run test:native`);
  return [{ claim: CLAIM, tried: lines.length, unit: 'test programs', atLeast: AT_LEAST, violations }];
}
