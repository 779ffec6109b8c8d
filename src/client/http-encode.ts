// Content-Encoding of the bodies that the client sends. A body is compressed once, on Node's own threads, and sent again as it is.
// The gateway keys what it remembers by the decoded records, so that a retry may come in another coding.
//
// Compressed is a body of LEAST_BYTES or more that becomes a tenth shorter at least. Smaller ones fit a few packets anyway, and the
// gateway hands whatever is compressed to a decode thread, which costs more than it saves there.

import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { WIRE_GZIP_LEVEL, WIRE_WORTH, type WireCodec } from '../codec/append-codec.ts';

const LEAST_BYTES = 4096;

const gzip = promisify<Uint8Array, zlib.ZlibOptions, Buffer>(zlib.gzip);
/** Since Node 22.15; options.ts has refused it where there is none. */
const { zstdCompress } = zlib as unknown as { zstdCompress: typeof zlib.deflate };

/** The body to send, and the header that says so. */
export interface Encoded {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

export async function encodeBody(body: Buffer, codec: WireCodec): Promise<Encoded> {
  if (codec === 'none' || body.length < LEAST_BYTES) return { body, headers: {} };
  const encoded = codec === 'gzip' ? await gzip(body, { level: WIRE_GZIP_LEVEL }) : await promisify(zstdCompress)(body);
  if (encoded.length > WIRE_WORTH * body.length) return { body, headers: {} };
  return { body: encoded, headers: { 'content-encoding': codec } };
}
