// The rival of bench:http: a bare node:http server that reads the body and answers, and stores nothing.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const answer = '{"accepted":1,"firstOffset":0,"lastOffset":0,"durable":false}';
const headers = ['content-type', 'application/json', 'content-length', String(answer.length)];

const server = createServer({ noDelay: true }, (req, res) => {
  const chunks: Buffer[] = [];
  req.on('data', (chunk: Buffer) => chunks.push(chunk));
  req.on('end', () => {
    if (chunks.length > 1) Buffer.concat(chunks);
    res.writeHead(200, headers);
    res.end(answer);
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.once('SIGTERM', () => process.exit(0));
