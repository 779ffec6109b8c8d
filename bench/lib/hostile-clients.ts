// Clients that mean no good, as a process of their own: they hold connections and give nothing, or take nothing, until stdin ends.
//   hostile-clients.js PORT PATH KIND COUNT
// Lines of JSON: one once every first connection is there or has failed, one at the end.
//
//   idle       connects, and says nothing; comes again when it is cut
//   dribble    every other one sends a head, a byte a second; the others a head, then a body, a byte a second
//   deaf       asks for full pages of a stream, again and again, and never reads an answer
//   flood      connects and leaves, COUNT times a second

import { connect, type Socket } from 'node:net';

/** What a process of these says. */
export interface Told {
  /** First connections that were asked for, and how many of them there were. */
  readonly asked: number;
  readonly connected: number;
  /** Attempts that failed, by errno, at any time. */
  readonly failed: Readonly<Record<string, number>>;
  /** Connections that the other side ended: of dribblers by what they were sending. */
  readonly cut: Readonly<Record<string, number>>;
}

const [portText, path, kind, countText] = process.argv.slice(2);
const port = Number(portText);
const count = Number(countText);
/** A flood's first portion: as many as come in 20 ms. */
const asked = kind === 'flood' ? Math.ceil(count / 50) : count;
const failed: Record<string, number> = {};
const cut: Record<string, number> = {};
const sockets = new Set<Socket>();
let connected = 0;
let waiting = asked;
let isOver = false;

const told = (): void => console.log(JSON.stringify({ asked, connected, failed, cut } satisfies Told));
const count1 = (counts: Record<string, number>, name: string): void => void (counts[name] = (counts[name] ?? 0) + 1);

/**
 * @param isFirst one of those that are waited for
 * @param what it is counted as when it is cut
 * @param again called once it has gone, not by us
 */
function open(isFirst: boolean, what: string, again?: () => void): Socket {
  let isUp = false;
  const settled = (): void => void (isFirst && --waiting === 0 && told());
  const socket = connect(port, '127.0.0.1', () => {
    isUp = true;
    if (isFirst) connected++;
    settled();
  });
  sockets.add(socket);
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (isUp) return;
    count1(failed, error.code ?? 'ERROR');
    settled();
  });
  socket.on('close', () => {
    // Who leaves by itself is no longer among them.
    if (!sockets.delete(socket) || isOver) return;
    if (isUp) count1(cut, what);
    again?.();
  });
  return socket;
}

function leave(socket: Socket): void {
  sockets.delete(socket);
  socket.destroy();
}

function idle(isFirst: boolean): void {
  open(isFirst, 'idle', () => idle(false)).resume();
}

function dribble(isFirst: boolean, i: number): void {
  const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n`;
  const what = i % 2 === 0 ? 'head' : 'body';
  // Who is cut comes again.
  const socket = open(isFirst, what, () => {
    clearInterval(timer);
    dribble(false, i);
  });
  socket.setNoDelay(true).resume();
  let at = 0;
  if (what === 'body') socket.write(head);
  const timer = setInterval(() => {
    if (!socket.writable) return;
    socket.write(what === 'body' ? 'x' : head[at++ % head.length]);
  }, 1000);
}

function deaf(isFirst: boolean): void {
  const socket = open(isFirst, 'deaf', () => {
    clearInterval(timer);
    setTimeout(() => isOver || deaf(false), 100);
  });
  const ask = `GET ${path}?max=10000 HTTP/1.1\r\nhost: x\r\n\r\n`;
  socket.pause();
  socket.write(ask.repeat(8));
  // Who does not read hears only by writing that it was cut.
  const timer = setInterval(() => socket.writable && socket.writableLength === 0 && socket.write(ask), 1000);
}

function portion(isFirst: boolean): void {
  for (let i = 0; i < count / 50; i++) {
    const socket = open(isFirst, 'flood');
    socket.on('connect', () => leave(socket));
  }
}

if (kind === 'flood') {
  portion(true);
  setInterval(() => portion(false), 20);
} else {
  for (let i = 0; i < count; i++) {
    if (kind === 'idle') idle(true);
    else if (kind === 'dribble') dribble(true, i);
    else deaf(true);
  }
}
process.stdin.resume().on('end', () => {
  isOver = true;
  for (const socket of sockets) socket.destroy();
  told();
  setTimeout(() => process.exit(0), 100);
});
