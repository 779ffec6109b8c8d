// Writes native/constants.h from src/base/limits.ts, so that what crosses the language has one source.
// `node dist/scripts/generate-constants.js` after a change; a test compares the file with `renderConstants()`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  BATCH_CRC_AT,
  BATCH_HEADER_BYTES,
  BLOCK_BYTES,
  COUNTER_SLOTS,
  counterSlots,
  NATIVE_INTERFACE,
  RECORD_ALIGN_BYTES,
  RECORD_HEADER_BYTES,
} from '../src/base/limits.ts';

function constantName(name: string): string {
  return `k${name[0].toUpperCase()}${name.slice(1)}`;
}

/** The text of native/constants.h. */
export function renderConstants(): string {
  const lines = [
    '// Generated from src/base/limits.ts by scripts/generate-constants.ts; do not edit.',
    '',
    '#pragma once',
    '',
    'namespace spillway {',
    '',
    `constexpr int kNativeInterface = ${NATIVE_INTERFACE};`,
    `constexpr unsigned kBlockBytes = ${BLOCK_BYTES};`,
    `constexpr unsigned kBatchHeaderBytes = ${BATCH_HEADER_BYTES};`,
    `constexpr unsigned kBatchCrcAt = ${BATCH_CRC_AT};`,
    `constexpr unsigned kRecordHeaderBytes = ${RECORD_HEADER_BYTES};`,
    `constexpr unsigned kRecordAlignBytes = ${RECORD_ALIGN_BYTES};`,
    '',
    '// Slots of the counter block.',
    ...Object.entries(counterSlots).map(([name, slot]) => `constexpr int ${constantName(name)} = ${slot};`),
    `constexpr int kCounterSlots = ${COUNTER_SLOTS};`,
    '',
    '}  // namespace spillway',
    '',
  ];
  return lines.join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(join(process.cwd(), 'native', 'constants.h'), renderConstants());
}
