// Clients that mean no good, as a process of their own: they hold connections and give nothing, or take nothing, until stdin ends.
//   hostile-clients.js PORT PATH KIND COUNT
// It says `ready` once all are there, and counts as one line of JSON at the end.
//
//   idle       connects, and says nothing
//   dribble    sends a request, a byte of it a second
//   deaf       asks for all of a stream, again and again, and never reads an answer
//   flood      connects and leaves, COUNT times a second

import { connect, type Socket } from 'node:net';

const [portText, path, kind, countText] = process.argv.slice(2);
const port = Number(portText);
const count = Number(countText);
const counts = { connected: 0, closed: 0, failed: 0 };
const timers: NodeJS.Timeout[] = [];
const sockets = new Set<Socket>();

function open(): Socket {
  const socket = connect(port, '127.0.0.1', () => counts.connected++);
  sockets.add(socket);
  socket.on('error', () => counts.failed++);
  socket.on('close', () => {
    counts.closed++;
    sockets.delete(socket);
  });
  return socket;
}

function dribble(): void {
  const request = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n${'x'.repeat(1000)}`;
  const socket = open().setNoDelay(true).resume();
  let at = 0;
  timers.push(setInterval(() => socket.writable && socket.write(request[at++ % request.length]), 1000));
  // Who is cut comes again.
  socket.on('close', () => process.exitCode === undefined && timers.length < 100_000 && dribble());
}

function deaf(): void {
  const socket = open().pause();
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`.repeat(8));
  socket.on('close', () => process.exitCode === undefined && setTimeout(deaf, 100));
}

/** As many as come in 20 ms. */
function portion(): void {
  for (let i = 0; i < count / 50; i++) {
    const socket = open();
    socket.on('connect', () => socket.destroy());
  }
}

if (kind === 'flood') timers.push(setInterval(portion, 20));
else for (let i = 0; i < count; i++) ({ idle: open, dribble, deaf })[kind as 'idle' | 'dribble' | 'deaf']();
setTimeout(() => console.log('ready'), 500);
process.stdin.resume().on('end', () => {
  process.exitCode = 0;
  for (const timer of timers) clearInterval(timer);
  for (const socket of sockets) socket.destroy();
  console.log(JSON.stringify(counts));
  setTimeout(() => process.exit(0), 100).unref();
});
