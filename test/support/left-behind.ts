// Mounts a small disk for a proof, starts a process of its own that outlives it, tells of both, and stays until it is ended.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { directoryForMounts, mount } from './mounts.ts';

const stays = spawn('sleep', ['600'], { stdio: 'ignore' });
let dir: string | undefined;
if (process.argv[2] === 'mounted') {
  dir = join(directoryForMounts('lifecycle'), 'disk');
  mkdirSync(dir);
  mount(dir, '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs');
}
process.send!({ dir, pid: stays.pid });
setTimeout(() => undefined, 600_000);
