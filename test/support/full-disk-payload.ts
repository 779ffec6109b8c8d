// The bytes of record `sequence` of run `run`: known to writer and checker, different for every record.

export function payloadOf(run: number, sequence: number): Buffer {
  const head = `${run}:${sequence}:`;
  const length = head.length + (((sequence * 2654435761) >>> 0) % (sequence % 50 === 0 ? 16_000 : 700));
  const bytes = Buffer.alloc(length, (run * 31 + sequence) & 0xff);
  bytes.write(head, 'latin1');
  return bytes;
}
