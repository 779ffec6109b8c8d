// Which codecs this process has, so that a test says which it could not try, and why.

import { codecs, type Codec } from '../../src/base/types.ts';
import { codecLacks } from '../../src/codec/batch-codec.ts';

export const compressing = codecs.filter((codec) => codec !== 'none');

/** For the options of a test: a reason to skip it, where there is one. */
export function needs(codec: Codec): { skip: string } | Record<string, never> {
  const lacks = codecLacks(codec);
  return lacks === undefined ? {} : { skip: `${codec} needs ${lacks}` };
}

export const here = compressing.filter((codec) => codecLacks(codec) === undefined);
