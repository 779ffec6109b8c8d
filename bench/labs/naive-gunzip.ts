// What people write first: an HTTP server that undoes the encoding of a body in one call, and looks at the size of what came out.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

const MOST_BYTES = 8 * 1024 * 1024;

const server = createServer((req, res) => {
  const chunks: Buffer[] = [];
  req.on('data', (chunk: Buffer) => chunks.push(chunk));
  req.on('end', () => {
    try {
      const body = gunzipSync(Buffer.concat(chunks));
      res.writeHead(body.length > MOST_BYTES ? 413 : 200).end();
    } catch {
      res.writeHead(400).end();
    }
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.once('SIGTERM', () => process.exit(0));
