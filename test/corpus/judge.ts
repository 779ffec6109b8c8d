// Compares what a client heard with what its case expects: one line for each difference.

import { errorKinds, type ErrorCode } from '../../src/base/errors.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import { decodeAck, decodeError, frameType, MAX_SERVER_FRAME_BYTES } from '../../src/codec/frames.ts';
import type { CounterName } from '../../src/ingress/counters.ts';
import type { Answer } from '../support/gateway-talk.ts';
import type { Area, Case, Said } from './case.ts';

const isCode = (said: Said): said is ErrorCode => typeof said === 'string' && Object.hasOwn(errorKinds, said);

/** An error answer is what docs/errors.md promises of its code. @returns what is wrong with it */
function wrongError({ status, headers, text }: Answer, code: ErrorCode, says: RegExp | undefined): string[] {
  const kind = errorKinds[code];
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return [`expected ${kind.status} ${code}, got ${status} and no JSON: '${text.slice(0, 200)}'`];
  }
  const wrong: string[] = [];
  const expect = (what: string, expected: unknown, came: unknown): void => {
    if (expected !== came) wrong.push(`${what}: expected ${String(expected)}, got ${String(came)}`);
  };
  if (body['error'] !== code || status !== kind.status) {
    return [`expected ${kind.status} ${code}, got ${status} ${String(body['error'])}: ${String(body['message'])}`];
  }
  expect('content-type', 'application/json', headers['content-type']);
  expect('content-length', Buffer.byteLength(text), Number(headers['content-length']));
  expect('retryable', kind.retryable, body['retryable']);
  expect('a request id', 'string', typeof body['requestId']);
  const { message } = body;
  if (typeof message !== 'string' || message === '') wrong.push('there is no message');
  else if (says !== undefined && !says.test(message)) wrong.push(`expected a message like ${says}, got '${message}'`);
  return wrong;
}

/** @param answer undefined where none came */
export function judgeAnswer(said: Said, answer: Answer | undefined, says: RegExp | undefined): string[] {
  if (answer === undefined) return [`expected ${said}, got no answer`];
  if (isCode(said)) return wrongError(answer, said, says);
  return answer.status === said ? [] : [`expected ${said}, got ${answer.status} ${answer.text.slice(0, 200).trim()}`];
}

/** What a server said in frames, in the words of a case. */
export function saidInFrames(received: Uint8Array): { said: string[]; message: string } {
  const said: string[] = [];
  let acked = 0;
  let message = '';
  const flush = (): void => {
    if (acked > 0) said.push(`ACK ${acked}`);
    acked = 0;
  };
  const parser = new FrameParser('client', MAX_SERVER_FRAME_BYTES, {
    onHeader: () => undefined,
    onFrame: (frame) => {
      if (frame.type === frameType.credit) return;
      if (frame.type === frameType.ack) {
        for (const run of decodeAck(frame).runs) acked += run.records;
        return;
      }
      flush();
      if (frame.type === frameType.welcome) said.push('WELCOME');
      else if (frame.type === frameType.error) {
        const error = decodeError(frame);
        said.push(error.records === 0 ? error.code : `${error.records} × ${error.code}`);
        message = error.message;
      } else said.push(`frame ${frame.type}`);
    },
  });
  try {
    parser.push(received);
    if (parser.midFrame) said.push('half a frame');
  } catch (error) {
    said.push(`what is no frame: ${(error as Error).message}`);
  }
  flush();
  return { said, message };
}

/** The counter that shows a case to whoever watches: its own, or that of what it gets. */
export function counterOf({ moves, gets }: Case, to: Area['to']): CounterName {
  if (moves !== undefined) return moves;
  const code = gets.findLast((said) => isCode(said) || String(said).includes('×'));
  if (to !== 'http') {
    if (code === 'PROTOCOL_ERROR') return 'protocolErrors';
    if (code === 'UNAUTHORIZED') return 'unauthorized';
    return 'frames';
  }
  if (code === 'UNAUTHORIZED') return 'unauthorized';
  if (code !== undefined) return errorKinds[code as ErrorCode].status < 500 ? 'answers4xx' : 'answers5xx';
  return gets.includes(200) ? 'answers2xx' : 'aborted';
}
