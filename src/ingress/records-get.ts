// GET /v1/streams/{stream}/records: durable records as NDJSON, from an offset on; waits for one where there is none (long poll).
//
// Promises: it takes nothing that producers need (answers.ts). A page is made in many looks. After READ_LOOKS that walked over
// READ_LOOK_BYTES each and found nothing more, a poll goes on by itself; other readers are told where to. A poll that waits holds
// nothing, and looks again only when its stream may have moved.

import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayError } from '../base/errors.ts';
import { FOLLOW_POLL_MS, READ_LOOKS, READ_PAGE_BYTES, READ_PAGE_RECORDS, READ_WAIT_MS } from '../base/limits.ts';
import { show } from '../base/options.ts';
import type { Look } from '../pipeline/view.ts';
import { deliver, Peer } from './answers.ts';
import type { Host } from './host.ts';
import { PageText } from './page-text.ts';
import { Refusal } from './reply.ts';

/** How often a poll that waits looks whether anybody is there, and whether the gateway goes on. */
const POLL_LOOK_MS = 1000;
const DEFAULT_RECORDS = 1000;

export interface Wanted {
  readonly from: number | undefined;
  readonly max: number;
  readonly waitMs: number;
}

/** What the parameters ask for. @throws BAD_REQUEST */
export function wantedOf(query: URLSearchParams | undefined): Wanted {
  const wholeNumber = (name: string, min: number, max: number): number | undefined => {
    const text = query?.get(name) ?? null;
    if (text === null) return undefined;
    const n = Number(text);
    if (/^\d{1,16}$/.test(text) && n >= min && n <= max) return n;
    const message = `parameter '${name}': expected a whole number from ${min} to ${max}, got ${show(text)}`;
    throw new SpillwayError('BAD_REQUEST', message);
  };
  for (const name of query?.keys() ?? []) {
    if (name === 'from' || name === 'max' || name === 'waitMs') continue;
    throw new SpillwayError('BAD_REQUEST', `parameter ${show(name)}: expected from, max and waitMs only`);
  }
  return {
    from: wholeNumber('from', 0, Number.MAX_SAFE_INTEGER),
    max: wholeNumber('max', 1, READ_PAGE_RECORDS) ?? DEFAULT_RECORDS,
    waitMs: wholeNumber('waitMs', 0, READ_WAIT_MS) ?? 0,
  };
}

/** Adds what one look finds to a page. @throws OFFSET_OUT_OF_RANGE with the offset to go on from */
function look(host: Host, stream: string, from: number | undefined, text: PageText): Look {
  const { view } = host.parts;
  try {
    return view.look(stream, from, (record) => text.add(record));
  } catch (error) {
    if (!(error instanceof SpillwayError) || error.code !== 'OFFSET_OUT_OF_RANGE') throw error;
    const { startOffset, durableOffset } = view;
    const next = from !== undefined && from > durableOffset ? durableOffset : startOffset;
    throw new Refusal(error, { headers: ['x-next-offset', String(next)] });
  }
}

/** One request, on its way to an answer. */
class Read {
  readonly #host: Host;
  readonly #res: ServerResponse;
  readonly #peer: Peer;
  readonly #stream: string;
  readonly #wanted: Wanted;
  readonly #untilMs: number;
  /** Where the next look begins. */
  #from: number | undefined;
  /** Where the first began. */
  #begunAt: number | undefined;
  #needBytes = READ_PAGE_BYTES;

  constructor(host: Host, res: ServerResponse, peer: Peer, stream: string, wanted: Wanted) {
    this.#host = host;
    this.#res = res;
    this.#peer = peer;
    this.#stream = stream;
    this.#wanted = wanted;
    this.#from = wanted.from;
    this.#untilMs = host.parts.clock.monotonicMs() + wanted.waitMs;
  }

  async run(): Promise<void> {
    const { view } = this.#host.parts;
    // What is queued behind another answer holds nothing.
    await this.#peer.ownTurn();
    for (;;) {
      const seen = await this.#step();
      if (seen === 'answered') return;
      if (seen === 'more') continue;
      const lookedMs = this.#host.parts.clock.monotonicMs();
      do {
        await view.moved(this.#stream, seen, Math.min(POLL_LOOK_MS, Math.max(1, this.#leftMs)));
        if (this.#peer.isClosed) return this.#host.parts.counters.add('aborted');
        // Not walked over when it is looked for again.
        this.#from = view.unmovedUntil(this.#stream, seen) ?? this.#from;
      } while (view.mark(this.#stream) === seen && !this.#isOver);
      if (view.mark(this.#stream) === seen) return this.#answer(this.#from!, [], () => undefined);
      // A busy stream whose mark it shares wakes it at every commit: no more looks than that.
      const restMs = Math.min(lookedMs + FOLLOW_POLL_MS, this.#untilMs) - this.#host.parts.clock.monotonicMs();
      if (restMs > 0) await delay(restMs);
    }
  }

  get #leftMs(): number {
    return this.#untilMs - this.#host.parts.clock.monotonicMs();
  }

  /** Nothing more is waited for. */
  get #isOver(): boolean {
    const { state } = this.#host.parts.view;
    const wantsNoWait = this.#leftMs <= 0 || this.#peer.hasSaidAll;
    return wantsNoWait || this.#host.draining || state === 'closed' || state === 'poisoned';
  }

  /** Takes one look. @returns the mark of the stream before it, where it came to the end and found nothing */
  async #step(): Promise<'answered' | 'more' | number> {
    const { view, answers, options, counters } = this.#host.parts;
    let heldBytes = this.#needBytes;
    let isHandedOver = false;
    if (!(await answers.budget.acquire(heldBytes, { timeoutMs: options.maxBlockMs }))) {
      throw new SpillwayError('BACKLOG_FULL', `no room for an answer within ${options.maxBlockMs} ms: others hold it`);
    }
    const release = (bytes: number): void => {
      const given = Math.min(bytes, heldBytes);
      heldBytes -= given;
      answers.budget.release(given);
    };
    try {
      const seen = view.mark(this.#stream);
      // What was stored under a larger maxRecordBytes may be more than all that there is, and goes out nevertheless.
      const firstBytes = heldBytes === answers.capacityBytes ? Infinity : heldBytes;
      const text = new PageText(this.#wanted.max, firstBytes);
      let found: Look | undefined;
      let walked = 0;
      do {
        found = await answers.look(() =>
          this.#peer.isClosed ? undefined : look(this.#host, this.#stream, this.#from, text),
        );
        if (found === undefined) {
          counters.add('aborted');
          return 'answered';
        }
        this.#begunAt ??= found.begunAt;
        this.#from = found.nextOffset;
        if (found.stop === 'walked') walked++;
      } while (found.stop !== 'end' && !text.isFull && walked < READ_LOOKS);
      const { nextOffset } = found;
      const more = found.stop !== 'end';
      if (text.neededBytes !== undefined) {
        this.#needBytes = Math.min(text.neededBytes, answers.capacityBytes);
        return 'more';
      }
      // A place that it did not get away from would be taken for the end.
      const isStuck = more && nextOffset === this.#begunAt && !this.#host.draining;
      if (text.records === 0 && (!this.#isOver || isStuck)) return more ? 'more' : seen;
      release(Math.max(0, heldBytes - text.bytes));
      isHandedOver = true;
      await this.#answer(nextOffset, text.pieces(), release);
      return 'answered';
    } finally {
      if (!isHandedOver) release(heldBytes);
    }
  }

  async #answer(nextOffset: number, pieces: readonly Uint8Array[], sent: (bytes: number) => void): Promise<void> {
    const headers = ['content-type', 'application/x-ndjson', 'x-next-offset', String(nextOffset)];
    await deliver(this.#host, this.#res, this.#peer, headers, pieces, sent);
  }
}

/** @throws SpillwayError for whatever refuses the request */
export async function getRecords(
  host: Host,
  res: ServerResponse,
  stream: string,
  query: URLSearchParams | undefined,
): Promise<void> {
  const wanted = wantedOf(query);
  const peer = new Peer(res);
  try {
    await new Read(host, res, peer, stream, wanted).run();
  } finally {
    peer.leave();
  }
}
