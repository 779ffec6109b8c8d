// Little-endian words of 64 bits as exact numbers, and what every reader and writer of bytes needs besides.

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** Not exact from 2^53: bytes from outside are compared with `Number.MAX_SAFE_INTEGER` by who reads them. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/** A view over a transferred ArrayBuffer has length 0 and throws on use; `detached` is not there before Node 22. */
export function isDetached(view: Uint8Array): boolean {
  try {
    return new Uint8Array(view.buffer).length < 0;
  } catch {
    return true;
  }
}
