// The quick run of the proof of full disks and limited memory; and what it says where its memory cgroups fail it.

import t from 'tap';
import type { MemoryEvents } from '../../bench/lib/memory-group.ts';
import { prove, tryMemory, type Groups } from './full-disk.ts';
import { quick, testProof } from './proof.ts';

t.test('full disks', { timeout: 120_000 }, (t) => testProof(t, prove));

const killed: MemoryEvents = {
  oomKills: 1,
  limitMet: 1,
  peakBytes: 0,
  usageBytes: 0,
  cacheBytes: 0,
  anonymousBytes: 0,
};
const busy = (): never => {
  throw Object.assign(new Error('EBUSY: resource busy or locked, rmdir'), { code: 'EBUSY' });
};
/** A group whose child is killed at once. @param remove told how often a group was removed before */
function groups(remove: (times: number) => void, events: () => MemoryEvents = () => killed): Groups {
  let removed = 0;
  return { make: () => ({ inside: () => ['false', []], events, remove: () => remove(removed++) }) };
}

t.test('what was wrong under limited memory is told, whatever else fails', async (t) => {
  for (const [name, made] of Object.entries({
    'a group that is busy for a while': groups((times) => (times < 3 ? busy() : undefined)),
    'a group that stays': groups(busy),
    'a group that cannot be removed': groups(() => {
      throw new Error('EPERM: rmdir');
    }),
  })) {
    const { violations, skipped } = await tryMemory(quick, made);
    t.equal(skipped, undefined, name);
    t.match(violations.join('\n'), /killed for want of memory/, name);
  }
  const unreadable = groups(
    () => undefined,
    () => {
      throw new Error('ENOENT: memory.events');
    },
  );
  t.match((await tryMemory(quick, unreadable)).violations.join('\n'), /the child ended by[^]*ENOENT: memory.events/);
});

t.test('only where no group can be made it skips', async (t) => {
  const none: Groups = {
    make: () => {
      throw new Error('no memory cgroup can be made');
    },
  };
  t.equal((await tryMemory(quick, none)).skipped, 'no memory cgroup can be made');
});
