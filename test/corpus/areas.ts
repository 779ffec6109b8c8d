// All areas, in the order of the table.

import { auth, frameAuth } from './auth.ts';
import type { Area } from './case.ts';
import { compression, zstdArea } from './compression.ts';
import { frames, unixFrames } from './frames.ts';
import { bodies } from './http-bodies.ts';
import { framing } from './http-framing.ts';
import { frameNames, httpNames } from './names.ts';

export const areas: readonly Area[] = [
  framing,
  bodies,
  compression,
  frames,
  unixFrames,
  httpNames,
  frameNames,
  auth,
  frameAuth,
  zstdArea,
];
