// Makes an input out of another: one to a few small changes, as libFuzzer and AFL do them. Knows nothing of what the bytes mean but
// the dictionary of the target.

import { Random } from './random.ts';

/** Where arithmetic goes wrong. */
const interesting = [
  0,
  1,
  2,
  7,
  8,
  15,
  16,
  24,
  32,
  63,
  64,
  100,
  127,
  128,
  255,
  256,
  4095,
  4096,
  4097,
  32767,
  32768,
  65535,
  65536,
  2 ** 24,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 16,
  2 ** 32 - 8,
  2 ** 32 - 1,
];
const LONGEST_BLOCK = 64;

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  let bytes = 0;
  for (const part of parts) bytes += part.length;
  const out = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function inserted(input: Uint8Array, at: number, bytes: Uint8Array): Uint8Array {
  return joined(input.subarray(0, at), bytes, input.subarray(at));
}

/** A piece of bytes: often short. */
function piece(r: Random, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return bytes;
  const from = r.below(bytes.length);
  return bytes.subarray(from, from + 1 + r.below(Math.min(bytes.length - from, 1 << r.below(11))));
}

/** One change. The input may be changed in place. */
function once(r: Random, input: Uint8Array, other: Uint8Array, dictionary: readonly Uint8Array[]): Uint8Array {
  const { length } = input;
  const at = length === 0 ? 0 : r.below(length);
  const kind = length === 0 ? 5 + r.below(3) : r.below(13);
  switch (kind) {
    case 0:
      input[at] ^= 1 << r.below(8);
      return input;
    case 1:
      input[at] = r.below(256);
      return input;
    case 2:
      input[at] += r.below(33) - 16;
      return input;
    case 3:
    case 4: {
      // An interesting number, or the one that is there and a little more or less; little-endian.
      const bytes = Math.min(1 << r.below(3), length - at);
      let value = r.pick(interesting);
      if (kind === 4) {
        value = r.below(9) - 4;
        for (let i = bytes - 1; i >= 0; i--) value += input[at + i] * 2 ** (8 * i);
      }
      for (let i = 0; i < bytes; i++) input[at + i] = Math.floor(value / 2 ** (8 * i)) & 0xff;
      return input;
    }
    case 5:
      return inserted(
        input,
        at,
        Uint8Array.from({ length: 1 + r.below(8) }, () => r.below(256)),
      );
    case 6:
    case 7: {
      const token = dictionary.length === 0 ? piece(r, other) : r.pick(dictionary);
      if (kind === 6 || at + token.length > length) return inserted(input, at, token);
      input.set(token, at);
      return input;
    }
    case 8: {
      const bytes = 1 + r.below(Math.min(length - at, 1 << r.below(11)));
      return joined(input.subarray(0, at), input.subarray(at + bytes));
    }
    case 9:
      return inserted(input, at, piece(r, input));
    case 10:
      return inserted(input, at, new Uint8Array(1 + r.below(LONGEST_BLOCK)).fill(input[at]));
    case 11:
      return inserted(input, at, piece(r, other));
    default:
      // The beginning of one, the end of the other.
      return joined(input.subarray(0, at), other.subarray(other.length === 0 ? 0 : r.below(other.length)));
  }
}

/** A new input; neither of the two is touched. @param other another input to take pieces of */
export function mutate(
  r: Random,
  input: Uint8Array,
  other: Uint8Array,
  dictionary: readonly Uint8Array[],
  maxBytes: number,
): Uint8Array {
  let out = new Uint8Array(input);
  for (let changes = 1 << r.below(4); changes > 0; changes--) out = new Uint8Array(once(r, out, other, dictionary));
  return out.length > maxBytes ? out.subarray(0, maxBytes) : out;
}
