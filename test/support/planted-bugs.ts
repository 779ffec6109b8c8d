// Bugs planted on purpose, one at a time, into a copy of the sources that is built for this test alone (test/proof/planted.ts):
// nothing of them can ship, and no switch in the product turns them on. Each `find` must stand exactly once in its file: a
// change of the code that moves it makes the list fail loudly, not silently test nothing.
// `caughtBy` names the test that must turn red, as a path under test/.

export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface PlantedBug {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly caughtBy: string;
  /** Without the addon: the bug is in the fallback. */
  readonly withoutAddon?: true;
  /** In C++: the addon is built with it. */
  readonly native?: true;
}

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: 'acknowledged before the write returned',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 'this.#appendedOffset += plan.records;',
        replace: 'this.#appendedOffset += plan.records; this.#durableOffset = this.#appendedOffset;',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'an overlapped write counts as durable once it is handed over',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 'this.#underWay.push(underWay);',
        replace: 'this.#underWay.push(underWay); this.#durableOffset = underWay.endOffset;',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'the sync of each 100th durable write is skipped, and still counted',
    patches: [
      {
        file: 'src/platform/js-io.ts',
        find: "    this.count('commitSyncs');\n    this.sync(fd);",
        replace:
          "    this.count('commitSyncs');\n    if (this.counters[counterSlots.commitSyncs] % 100 !== 0) this.sync(fd);",
      },
    ],
    caughtBy: 'platform/file-io',
  },
  {
    name: 'the directory is not synced after a rename',
    patches: [
      {
        file: 'src/platform/js-io.ts',
        find: '    this.renamed(from, to);\n    this.syncDir(dirname(to));',
        replace: '    this.renamed(from, to);',
      },
    ],
    caughtBy: 'platform/file-io',
  },
  {
    name: 'open does not sync the directory that a killed process left',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 'left names that only its cache knows.\n    this.#io.syncDir(this.#dir);',
        replace: 'left names that only its cache knows.',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'the last batch is taken for durable by recovery',
    patches: [
      {
        file: 'src/log/tail.ts',
        find: 'if (position === undefined) return;',
        replace: 'if (position === undefined || fd >= 0) return io.sync(fd);',
      },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'recovery frees segments before the start it read is durable',
    patches: [
      {
        file: 'src/log/log.ts',
        find: '    this.checkpoint();\n    for (const baseOffset of recovered.obsolete) this.#free(baseOffset, 0);',
        replace: '    for (const baseOffset of recovered.obsolete) this.#free(baseOffset, 0);\n    this.checkpoint();',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'the checksum covers the payload only',
    patches: [
      {
        file: 'src/log/format.ts',
        find: 'crc32c(batch.subarray(0, BATCH_CRC_AT)),\n  );\n  return crc',
        replace: '0,\n  );\n  return crc',
      },
      {
        file: 'src/platform/js-bytes.ts',
        find: 'crc32cJs(staging.subarray(BATCH_CRC_AT + 4, end), crc32cJs(staging.subarray(0, BATCH_CRC_AT)))',
        replace: 'crc32cJs(staging.subarray(BATCH_CRC_AT + 4, end))',
      },
    ],
    caughtBy: 'proof/corruption',
    withoutAddon: true,
  },
  {
    name: 'the checksum leaves out the stream table',
    patches: [
      {
        file: 'src/log/format.ts',
        find: '    batch.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + header.bodyBytes),',
        replace: '    batch.subarray(BATCH_HEADER_BYTES + header.tableBytes, BATCH_HEADER_BYTES + header.bodyBytes),',
      },
      {
        file: 'src/platform/js-bytes.ts',
        find: 'crc32cJs(staging.subarray(BATCH_CRC_AT + 4, end), ',
        replace: 'crc32cJs(staging.subarray(prefixBytes, end), ',
      },
    ],
    caughtBy: 'proof/corruption',
    withoutAddon: true,
  },
  {
    name: 'the epoch of a batch is not checked',
    patches: [
      {
        file: 'src/log/format.ts',
        find: 'if (v.getUint32(28, true) !== segment.epoch || v.getUint32(56, true) !== segment.salt) {',
        replace: 'if (segment.epoch < 0) {',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'a torn tail is kept: its header is enough',
    patches: [
      {
        file: 'src/log/segment-file.ts',
        find: 'if (!checksumMatches(bytes, header, this.#io.bytes.crc32c))',
        replace: 'if (header.batchBytes === 0)',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'truncation frees one segment too many',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 's !== undefined && s.nextOffset <= this.#startOffset',
        replace: 's !== undefined && s.baseOffset <= this.#startOffset',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'truncation frees before the new start is durable',
    patches: [
      {
        file: 'src/log/log.ts',
        find: '      this.checkpoint();\n      this.checkpoint();\n    }\n    this.#freeObsolete();',
        replace: '    }\n    this.#freeObsolete();\n    this.checkpoint();',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'the header of a new segment is not synced before its name',
    patches: [
      {
        file: 'src/log/spare.ts',
        find: '      this.#io.write(fd, headerBlock, 0);\n      this.#io.sync(fd);',
        replace: '      this.#io.write(fd, headerBlock, 0);',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'a segment that cannot be opened counts as truncated by a live writer, also when the log is opened',
    patches: [
      {
        file: 'src/log/recovery.ts',
        find: "const start = who === 'visitor' ? freedSince(io, dir, baseOffset, reach) : undefined;",
        replace: 'const start = found === undefined ? next : undefined;',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'a lock is judged by its process id, whatever the pid namespace',
    patches: [{ file: 'src/log/lock.ts', find: '  if (!canBeSeen(holder)) return true;\n', replace: '' }],
    caughtBy: 'log/lock',
  },
  {
    name: 'the last batch is written again without a check of what was read again',
    patches: [{ file: 'src/log/tail.ts', find: '  if (!isFound) {', replace: '  if (!isFound && position < 0) {' }],
    caughtBy: 'proof/faults',
  },
  {
    name: 'a failed durable write does not poison the log',
    patches: [
      { file: 'src/log/log.ts', find: 'if (this.#poison !== undefined) throw this.#poison;\n    if', replace: 'if' },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'the error of a durable write is swallowed',
    patches: [
      {
        file: 'src/log/log.ts',
        find: '        cause: error,\n      });\n      throw this.#poison;',
        replace: '        cause: error,\n      });\n      this.#poison = undefined;',
      },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'an error in the commit loop is swallowed: it goes on',
    patches: [
      { file: 'src/pipeline/commit-loop.ts', find: 'return this.#fail(error);', replace: 'return this.#finish();' },
    ],
    caughtBy: 'pipeline/failure',
  },
  {
    name: 'a sync is tried again on a file where one has failed',
    patches: [
      {
        file: 'src/log/spare.ts',
        find: '      this.#io.close(fd);\n      this.#discard();',
        replace: '      this.#io.close(fd);',
      },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'recovery ends the log at the checkpoint',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 'this.#durableOffset = recovered.endOffset;',
        replace: 'this.#durableOffset = recovered.checkpoint?.durableOffset ?? 0;',
      },
    ],
    caughtBy: 'proof/explorer',
  },
  {
    name: 'damage in the midst of a segment is taken for its end',
    patches: [
      {
        file: 'src/log/scan.ts',
        find: 'const damaged = resumeAt !== undefined || durableOffset > offset',
        replace: 'const damaged = durableOffset < 0',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'the cursor of a lane is published before the data',
    patches: [
      {
        file: 'src/platform/lane-producer.ts',
        find: '    const i = at >> 2;\n    if (timestampMs',
        replace:
          '    Atomics.store(lane.words, laneWord.tail, this.#tail);\n    const i = at >> 2;\n    if (timestampMs',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'a sleeper is looked for before the cursor is published',
    patches: [
      {
        file: 'src/platform/lane-producer.ts',
        find: '    Atomics.store(words, laneWord.seq, this.#seq);\n    Atomics.store(words, laneWord.tail, this.#tail);\n    const shared = this.#shared;\n    const sleep = Atomics.load(shared.words, shared.sleeping);',
        replace:
          '    const shared = this.#shared;\n    const sleep = Atomics.load(shared.words, shared.sleeping);\n    Atomics.store(words, laneWord.seq, this.#seq);\n    Atomics.store(words, laneWord.tail, this.#tail);',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'a producer takes every sleep of the consumer for the one it has ended',
    patches: [
      {
        file: 'src/platform/lane-producer.ts',
        find: 'sleep === this.#rungFor) return;',
        replace: 'this.#rungFor > 0) return;',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'the commit loop sleeps without a last look',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: 'if (!missed) waitForSignal',
        replace: 'if (missed || !missed) waitForSignal',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'lane bytes are given back before they are copied',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '    this.#log.append(plan, overlap);\n    this.#lanes.release();',
        replace: '    this.#lanes.release();\n    this.#log.append(plan, overlap);',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'a flush is answered before what it covers is durable',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '    if (done.length === 0) return;\n    this.#log.settleAll();\n    this.#acknowledge();',
        replace: '    if (done.length === 0) return;',
      },
    ],
    caughtBy: 'pipeline/overlap',
  },
  {
    name: 'a close does not wait for the last batch under way',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '      this.#log.settleAll();\n      this.#acknowledge();\n      this.#waitForBusyLanes();\n      this.#log.close();',
        replace: '      this.#log.close();',
      },
    ],
    caughtBy: 'pipeline/overlap',
  },
  {
    name: 'a short write is taken for a whole one',
    patches: [
      {
        file: 'native/io.cc',
        find: '    done += static_cast<size_t>(n);\n',
        replace: '    done = length;\n',
      },
    ],
    native: true,
    caughtBy: 'platform/short-write',
  },
  {
    name: 'the write of a batch does not ask for durability',
    patches: [
      {
        file: 'native/io.cc',
        find: '::pwritev2(fd, &vector, 1, position, RWF_DSYNC)',
        replace: '::pwritev2(fd, &vector, 1, position, 0)',
      },
    ],
    native: true,
    caughtBy: 'proof/power',
  },
  {
    name: 'an acknowledgement brings the times of a later batch',
    patches: [
      {
        file: 'src/platform/lanes.ts',
        find: 'this.#unwritten.shift();',
        replace: 'this.#unwritten.pop();',
      },
    ],
    caughtBy: 'pipeline/stages',
  },
  {
    name: 'an acknowledgement is published before its slot is written',
    patches: [
      {
        file: 'src/platform/lane-consumer.ts',
        find: '    ackRuns[slot] = firstOffset;\n    ackRuns[slot + 1] = records;\n',
        replace:
          '    Atomics.store(words, laneWord.ackTail, (tail + 1) | 0);\n    ackRuns[slot] = firstOffset;\n    ackRuns[slot + 1] = records;\n',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'a lane is drained beyond its room for acknowledgements, and the oldest are overwritten',
    patches: [
      {
        file: 'src/platform/lanes.ts',
        find: 'if (without.has(run.lane) || run.lane.ackRoom() === 0) {',
        replace: 'if (without.has(run.lane)) {',
      },
    ],
    caughtBy: 'pipeline/overlap',
  },
  {
    name: 'retention stands still while the disk is full',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '        this.#log.retain();\n        this.#publishOffsets();\n        waitForSignal',
        replace: '        waitForSignal',
      },
    ],
    caughtBy: 'proof/full-disk',
  },
  {
    name: 'behind damage one looks 128 KiB far',
    patches: [
      {
        file: 'src/log/scan.ts',
        find: 'at < file.fileBytes; at += BLOCK_BYTES',
        replace: 'at < Math.min(file.fileBytes, position + 131072); at += BLOCK_BYTES',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'an idle log never writes its durable end down',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '    this.#log.checkpoint();\n    this.#behindSince = undefined;',
        replace: '    this.#behindSince = undefined;',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'a missing newest segment is not noticed by its epoch',
    patches: [
      {
        file: 'src/log/recovery.ts',
        find: 'checkpoint.epoch > epoch) {',
        replace: 'checkpoint.epoch > epoch + 2 ** 40) {',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'the checkpoint always goes into the same block',
    patches: [{ file: 'src/log/checkpoint.ts', find: '(next.generation & 1) * BLOCK_BYTES', replace: '0' }],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'every report of damage says position 0 and offset 0',
    patches: [
      {
        file: 'src/log/scan.ts',
        find: '        position,\n        firstOffset: offset,',
        replace: '        position: 0,\n        firstOffset: 0,',
      },
    ],
    caughtBy: 'proof/corruption',
  },
  {
    name: 'a flush forgets that sequence numbers wrap',
    patches: [
      {
        file: 'src/platform/lane-consumer.ts',
        find: 'return ((this.#seq - seq) | 0) >= 0;',
        replace: 'return this.#seq >= seq;',
      },
    ],
    caughtBy: 'proof/ring',
  },
  {
    name: 'an input/output error counts as a full disk',
    patches: [
      {
        file: 'src/base/errors.ts',
        find: "errno === 'ENOSPC' || errno === 'EDQUOT'",
        replace: "errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EIO'",
      },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'two staging buffers for three writes under way',
    patches: [
      {
        file: 'src/log/log.ts',
        find: 'this.#staging = [deps.io.alignedBuffer(bytes), deps.io.alignedBuffer(bytes), deps.io.alignedBuffer(bytes)];',
        replace: 'this.#staging = [deps.io.alignedBuffer(bytes), deps.io.alignedBuffer(bytes)];',
      },
    ],
    caughtBy: 'proof/faults',
  },
  {
    name: 'retentionMs is taken for seconds',
    patches: [
      {
        file: 'src/log/retention.ts',
        find: 'nowMs - s.lastCommitMs > retentionMs;',
        replace: 'nowMs - s.lastCommitMs > retentionMs / 1000;',
      },
    ],
    caughtBy: 'proof/model',
  },
  {
    name: 'a failing commit loop acknowledges what was appended',
    patches: [
      {
        file: 'src/pipeline/commit-loop.ts',
        find: '    this.#shared.fail(told);\n',
        replace: '    this.#lanes.acknowledge(this.#log.appendedOffset);\n    this.#shared.fail(told);\n',
      },
    ],
    caughtBy: 'pipeline/failure',
  },
  {
    name: 'a reader in another process does not sync the newest batch',
    patches: [{ file: 'src/log/reader.ts', find: '    place.file.sync();\n', replace: '' }],
    caughtBy: 'log/reader',
  },
  {
    name: 'the adaptive window grows on a first breach of its SLO',
    patches: [
      {
        file: 'src/window/aimd.ts',
        find: "  if (isBreach) return { lingerMs, reason: 'breach' };\n",
        replace: '',
      },
    ],
    caughtBy: 'window/aimd',
  },
  {
    name: 'the adaptive window hears its own start-up, and records of before it moved',
    patches: [
      {
        file: 'src/pipeline/window-control.ts',
        find: 'else if (interval === undefined && nowMs >= this.#deafUntilMs!)',
        replace: 'else if (interval === undefined)',
      },
    ],
    caughtBy: 'pipeline/window-control',
  },
];
