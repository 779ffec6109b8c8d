// A flood of POSTs as a process of its own: so many connections, each with one request at a time, over raw sockets, so that a
// body of any bytes costs nothing to send. Prints what came back as one line of JSON.
//   flood.js URL BODY_FILE CONTENT_TYPE ENCODING CONNECTIONS SECONDS

import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const [target, file, type, encoding, connectionsText, secondsText] = process.argv.slice(2);
const url = new URL(target);
const body = readFileSync(file);
const request = Buffer.concat([
  Buffer.from(
    `POST ${url.pathname} HTTP/1.1\r\nhost: ${url.host}\r\ncontent-type: ${type}\r\ncontent-encoding: ${encoding}\r\ncontent-length: ${body.length}\r\n\r\n`,
  ),
  body,
]);
const untilMs = performance.now() + Number(secondsText) * 1000;
const answers: Record<string, number> = {};
let cut = 0;

const count = (what: string): void => void (answers[what] = (answers[what] ?? 0) + 1);

/** Resolves when the time is over, and the last answer is there. */
function client(): Promise<void> {
  return new Promise((resolve) => {
    const open = (): void => {
      if (performance.now() >= untilMs) return resolve();
      const socket = connect(Number(url.port), url.hostname).setNoDelay(true);
      let text = '';
      let isOver = false;
      const over = (again: () => void): void => {
        if (isOver) return;
        isOver = true;
        socket.destroy();
        again();
      };
      socket.on('connect', () => socket.write(request));
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
        const head = text.indexOf('\r\n\r\n');
        if (head < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? 0);
        if (text.length < head + 4 + length) return;
        const status = text.slice(9, 12);
        count(status);
        const closes = /connection: close/i.test(text.slice(0, head));
        text = '';
        if (performance.now() >= untilMs) return over(resolve);
        // A refused client comes again, but not at once.
        if (closes || status !== '200') return over(() => setTimeout(open, 20));
        socket.write(request);
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        if (!isOver) cut++;
        over(() => setTimeout(open, 20));
      });
    };
    open();
  });
}

await Promise.all(Array.from({ length: Number(connectionsText) }, client));
console.log(JSON.stringify({ answers, cut }));
