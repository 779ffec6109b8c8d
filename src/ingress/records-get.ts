// GET /v1/streams/{stream}/records: durable records as NDJSON, from an offset on; waits for one where there is none (long poll).

import { isUtf8 } from 'node:buffer';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayError } from '../base/errors.ts';
import { FOLLOW_POLL_MS, READ_PAGE_BYTES, READ_PAGE_RECORDS, READ_WAIT_MS } from '../base/limits.ts';
import { show } from '../base/options.ts';
import type { LogRecord } from '../base/types.ts';
import type { Host } from './host.ts';
import { answer } from './reply.ts';

/** A query parameter. @throws BAD_REQUEST */
function wholeNumber(query: URLSearchParams | undefined, name: string, max: number): number | undefined {
  const text = query?.get(name) ?? null;
  if (text === null) return undefined;
  const n = Number(text);
  if (/^\d{1,16}$/.test(text) && n <= max) return n;
  throw new SpillwayError(
    'BAD_REQUEST',
    `parameter '${name}': expected a whole number from 0 to ${max}, got ${show(text)}`,
  );
}

function lineOf(record: LogRecord): string {
  const payload = Buffer.from(record.payload.buffer, record.payload.byteOffset, record.payload.byteLength);
  const text = isUtf8(payload)
    ? `"payload":${JSON.stringify(payload.toString('utf8'))}`
    : `"payloadBase64":"${payload.toString('base64')}"`;
  const key = record.key === null ? '' : `,"keyBase64":"${Buffer.from(record.key).toString('base64')}"`;
  return `{"offset":${record.offset},"timestampMs":${record.timestampMs},${text}${key}}\n`;
}

/** @throws SpillwayError for whatever refuses the request */
export async function getRecords(
  host: Host,
  res: ServerResponse,
  stream: string,
  query: URLSearchParams | undefined,
): Promise<void> {
  let from = wholeNumber(query, 'from', Number.MAX_SAFE_INTEGER);
  const max = wholeNumber(query, 'max', READ_PAGE_RECORDS) ?? 1000;
  const waitMs = wholeNumber(query, 'waitMs', READ_WAIT_MS) ?? 0;
  const { view, budget, clock, options } = host.parts;
  // What is read is held until it is sent: a page in memory, as text about twice that.
  const held = Math.min(3 * READ_PAGE_BYTES, options.ingressBytes);
  const untilMs = clock.monotonicMs() + waitMs;
  for (;;) {
    const seen = view.progress;
    if (!(await budget.acquire(held, { timeoutMs: options.maxBlockMs }))) {
      throw new SpillwayError('BACKLOG_FULL', `no room for an answer within ${options.maxBlockMs} ms`);
    }
    let sending = false;
    try {
      // Nobody is there: its 'close' has been, and would not release what is held.
      if (res.destroyed) return answer(host, res, 200, '', []);
      const { records, nextOffset } = view.page(stream, from, Math.max(1, max), READ_PAGE_BYTES);
      const leftMs = untilMs - clock.monotonicMs();
      // A client that has closed its side has gone, or wants its answer: nothing is waited for.
      const wantsNoWait = leftMs <= 0 || res.req.socket.readableEnded;
      const over = wantsNoWait || host.draining || view.state === 'closed' || view.state === 'poisoned';
      if (records.length > 0 || over) {
        sending = true;
        res.once('close', () => budget.release(held));
        const headers = ['content-type', 'application/x-ndjson', 'x-next-offset', String(nextOffset)];
        return answer(host, res, 200, records.map(lineOf).join(''), headers);
      }
      // What was looked through is not looked through again.
      from = nextOffset;
    } finally {
      if (!sending) budget.release(held);
    }
    // Looked at again at least once a second: a client that has gone, or a drain, ends the waiting.
    const lookedMs = clock.monotonicMs();
    await view.changed(seen, Math.min(1000, Math.max(1, untilMs - lookedMs)));
    // Every commit of any stream wakes it, and each look costs the thread that takes records: no more of them than that.
    const restMs = Math.min(lookedMs + FOLLOW_POLL_MS, untilMs) - clock.monotonicMs();
    if (restMs > 0) await delay(restMs);
  }
}
