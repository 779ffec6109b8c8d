// The shared memory of one scenario of test/proof/ring.ts: the real SharedState and lanes, and a mailbox for what in
// production goes through a MessagePort or the disk. All of it can be saved, put back and hashed, which is what lets one
// thread play several (schedule-run.ts).
// Limits: lanes of at most a few hundred bytes; of the acknowledgement slots only the first and last eight; statistics
// and histograms, which one thread writes and no thread decides by, are left out.

import { ACK_SLOTS } from '../../src/base/limits.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import { ACK_FIELDS, createLaneBuffer, laneWord } from '../../src/platform/lane-memory.ts';
import { SharedState } from '../../src/platform/shared-state.ts';

const CONTROL_WORDS = 128;
const ACKS_AT = CONTROL_WORDS;
const ACK_WORDS = ACK_SLOTS * ACK_FIELDS * 2;
const ACKS_KEPT = 8 * ACK_FIELDS * 2;
/** Control words and the three offsets of SharedState. */
const SHARED_WORDS = 128 + 6;

/** Int32 indexes of the mailbox. */
export const mail = {
  /** Commands posted so far: what MessagePort.postMessage orders. */
  posted: 0,
  /** Counted up and notified with each answer. */
  replied: 1,
  /** What the fake log has made durable: an acknowledgement beyond it is a lie. */
  durable: 2,
  /** Per lane: records that its producer has announced, before the publish that shows them. */
  announced: 4,
  /** Per lane: records that came out of the commit loop. */
  drained: 8,
  /** Per command id (from 1): 1 answered, 2 refused. */
  answers: 12,
  /** Per command, two words: kind and argument. */
  commands: 20,
  /** Per offset: lane × 256 + number of the record in its lane. */
  owners: 40,
} as const;
const MAIL_WORDS = 64;

export interface LaneSetup {
  readonly laneBytes: number;
  /** Where TAIL and HEAD stand at the beginning, modulo 2^32: shortly before 0 both the lap and the number wrap. */
  readonly cursor?: number;
  readonly ackCursor?: number;
  /** Where SEQ stands at the beginning: at 2^31 - 1 the next is negative for who forgets that it wraps. */
  readonly firstSeq?: number;
  /** Acknowledgement runs that lie unread from the beginning. */
  readonly unreadAcks?: number;
  /** Bytes of payload of each record; `key` bytes of key before them. */
  readonly records: readonly { readonly payload: number; readonly key?: number }[];
  /** The commit loop does not know this lane yet. */
  readonly later?: boolean;
}

export interface RecordOf {
  readonly key: Uint8Array | null;
  readonly payload: Uint8Array;
}

function bytesOf(lane: number, index: number, salt: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (lane * 101 + index * 37 + salt * 59 + i * 7 + 1) & 255);
}

/** What is put with a record, so that the other end can compare. */
export const timestampOf = (index: number): number => 1.7e12 + index;

export class World {
  readonly shared = new SharedState();
  readonly lanes: readonly SharedArrayBuffer[];
  readonly laneWords: readonly Int32Array[];
  readonly setups: readonly LaneSetup[];
  readonly records: readonly (readonly RecordOf[])[];
  readonly window: WindowOptions;
  readonly mail = new Int32Array(new SharedArrayBuffer(MAIL_WORDS * 4));
  readonly #views: Int32Array[];
  readonly #bytes: number;
  readonly #initial: Int32Array;

  constructor(setups: readonly LaneSetup[], window: WindowOptions) {
    this.setups = setups;
    this.window = window;
    this.lanes = setups.map((s) => createLaneBuffer(s.laneBytes));
    this.laneWords = this.lanes.map((lane) => new Int32Array(lane, 0, CONTROL_WORDS));
    this.records = setups.map((s, lane) =>
      s.records.map(({ payload, key }, i) => ({
        key: key === undefined ? null : bytesOf(lane, i, 1, key),
        payload: bytesOf(lane, i, 0, payload),
      })),
    );
    this.#views = [new Int32Array(this.shared.buffer, 0, SHARED_WORDS), this.mail];
    setups.forEach((setup, n) => {
      const lane = this.lanes[n];
      this.#views.push(
        this.laneWords[n],
        new Int32Array(lane, ACKS_AT * 4, ACKS_KEPT),
        new Int32Array(lane, (ACKS_AT + ACK_WORDS - ACKS_KEPT) * 4, ACKS_KEPT),
        new Int32Array(lane, lane.byteLength - setup.laneBytes, setup.laneBytes / 4),
      );
      const words = this.laneWords[n];
      words[laneWord.tail] = setup.cursor ?? 0;
      words[laneWord.head] = setup.cursor ?? 0;
      for (const word of ['firstSeq', 'seq', 'wakeSeq'] as const) words[laneWord[word]] = setup.firstSeq ?? 0;
      words[laneWord.ackHead] = setup.ackCursor ?? 0;
      words[laneWord.ackTail] = ((setup.ackCursor ?? 0) + (setup.unreadAcks ?? 0)) | 0;
      if (setup.later !== true) this.enqueue('lane', n);
    });
    this.#bytes = this.#views.reduce((sum, view) => sum + view.length, 0);
    this.#initial = this.save();
  }

  reset(): void {
    this.restore(this.#initial);
  }

  save(into: Int32Array = new Int32Array(this.#bytes)): Int32Array {
    let at = 0;
    for (const view of this.#views) {
      into.set(view, at);
      at += view.length;
    }
    return into;
  }

  restore(from: Int32Array): void {
    let at = 0;
    for (const view of this.#views) {
      view.set(from.subarray(at, at + view.length));
      at += view.length;
    }
  }

  /** 64 bits over everything that `save` keeps, as two words. */
  hash(into: Int32Array): void {
    let a = 1;
    let b = 2;
    for (const view of this.#views) {
      for (let i = 0; i < view.length; i++) {
        const word = view[i];
        a = Math.imul(a ^ word ^ (a >>> 15), 0x9e3779b1);
        b = Math.imul(b ^ word ^ (b >>> 13), 0x85ebca6b) + 1;
      }
    }
    into[0] = a;
    into[1] = b;
  }

  /** What holds the words that threads order themselves by; a word's number is its buffer's place here × 128 + index. */
  get buffers(): readonly SharedArrayBuffer[] {
    return [this.shared.buffer, this.mail.buffer as SharedArrayBuffer, ...this.lanes];
  }

  nameOf(word: number): string {
    const index = word % CONTROL_WORDS;
    const buffer = Math.floor(word / CONTROL_WORDS);
    const { doorbell, sleeping, commands, progress } = this.shared;
    const named: Record<string, number> =
      buffer === 0
        ? { doorbell, sleeping, commands, progress, state: 64 }
        : buffer === 1
          ? { posted: mail.posted, replied: mail.replied }
          : laneWord;
    const name = Object.keys(named).find((key) => named[key] === index) ?? String(index);
    return buffer === 0 ? name : buffer === 1 ? `mail.${name}` : `lane${buffer - 2}.${name}`;
  }

  /** Writes another command down and returns its id; where not `visible`, the caller counts `posted` up. */
  enqueue(kind: CommandKind, argument: number, visible = true): number {
    const n = this.mail[mail.posted];
    this.mail[mail.commands + n * 2] = commandKinds.indexOf(kind);
    this.mail[mail.commands + n * 2 + 1] = argument;
    if (visible) {
      this.mail[mail.posted] = n + 1;
      this.shared.words[this.shared.commands]++;
    }
    return n + 1;
  }

  /** Records published and not drained, over all lanes; read without a step of any thread. */
  get left(): { records: number; bytes: number } {
    let records = 0;
    let bytes = 0;
    this.laneWords.forEach((words, lane) => {
      records += (words[laneWord.seq] - words[laneWord.firstSeq] - this.mail[mail.drained + lane]) >>> 0;
      bytes += (words[laneWord.tail] - words[laneWord.head]) >>> 0;
    });
    return { records, bytes };
  }
}

export const commandKinds = ['lane', 'flush', 'close'] as const;
export type CommandKind = (typeof commandKinds)[number];
