// Which addon is used.

import t from 'tap';
import { NATIVE_INTERFACE } from '../../src/base/limits.ts';
import { checkInterface, native, nativeMissing } from '../../src/platform/native.ts';

t.test('an addon of other sources is not used: it says what to do', async (t) => {
  for (const addon of [{}, { interface: NATIVE_INTERFACE - 1 }, { interface: NATIVE_INTERFACE + 1 }]) {
    t.throws(() => checkInterface(addon), /built from other sources: remove the folder build, then npm ci/);
  }
  checkInterface({ interface: NATIVE_INTERFACE });
});

t.test('that of this checkout is', { skip: native === undefined ? nativeMissing! : false }, async (t) => {
  t.equal(native!.interface, NATIVE_INTERFACE);
});
