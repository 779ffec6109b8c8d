// Credit of one TCP connection: bytes that its producer may still send. Credit is granted from space that is really free, and
// that space is set aside for it until the bytes have come and gone; so what a producer sends within its credit always has room.
//
//     free ──grant──▶ outstanding ──spent──▶ held ──returned──▶ free
//                     may be sent           has come, is not    (the caller takes it from the budget at `grant`
//                                           durable yet          and releases it when it is done with, or at `close`)
//
// Who gets how much:
//   - minBytes for everybody. More than that is only granted from what would be left if each of the other connections took its
//     minBytes; so where the space is at least connections × minBytes, whoever has nothing held has half of minBytes or more;
//   - beyond that, at most as much as then stays free ("dynamic threshold": A. K. Choudhury and E. L. Hahne, Dynamic queue
//     length thresholds for shared-memory packet switches, IEEE/ACM Transactions on Networking 6 (2), 1998, with α = 1): k busy
//     ones have 1/(k + 1) of the space each, and a newcomer finds as much;
//   - and never more than maxBytes, outstanding and held together. This limit begins at minBytes and doubles each time the
//     producer has spent half of it between two grants, as a connection that sends little needs little (slow start, RFC 5681
//     section 3.1; nothing else of TCP's congestion control).
//   - No credit in small change, as of a receiver that avoids the silly window (RFC 9293, section 3.8.6.2.2): nothing is granted
//     below a quarter of what the connection may have, or of minBytes where it has hardly any left.
//   - Nothing for a producer that has not spent any of its last grant and has some left: one that fell silent keeps no more.
// Limits: credit is not taken back, so a connection that fell silent keeps what it has, up to maxBytes, until it is closed.
// What idle connections keep is why the space for credit should be a budget of its own, beside that of HTTP bodies. For a
// frame that is larger than its credit a producer may wait in vain, as the server cannot know of it; so the protocol has to let
// whoever has nothing under way send one frame of any size. `spent` then says how much room is still to be found for it,
// before it is read. TCP's own flow control stands behind all this: whoever ignores credit is not read.

export interface CreditBounds {
  /** Granted to every connection as soon as there is room. */
  readonly minBytes: number;
  /** Most that one connection may have outstanding and held together. */
  readonly maxBytes: number;
}

export class Credits {
  readonly #minBytes: number;
  readonly #maxBytes: number;
  #limitBytes: number;
  #outstandingBytes = 0;
  #heldBytes = 0;
  #spentSinceGrant = 0;

  constructor(bounds: CreditBounds) {
    this.#minBytes = bounds.minBytes;
    this.#maxBytes = bounds.maxBytes;
    this.#limitBytes = bounds.minBytes;
  }

  /** Granted and not yet spent. */
  get outstandingBytes(): number {
    return this.#outstandingBytes;
  }

  /** Spent and not yet returned. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * Grants what is due; to be asked after each `spent` and `returned`, and when others have made room. The caller sets the bytes
   * aside before it asks for another connection.
   * @param freeBytes not taken and not granted to anybody; 0 where there shall be no credit now
   * @param connections that share it, this one too: those open, or all that may be open, where room is to be kept for these
   * @returns bytes for a CREDIT frame, at most freeBytes; 0: none
   */
  grant(freeBytes: number, connections: number): number {
    const minBytes = this.#minBytes;
    if (this.#spentSinceGrant * 2 >= this.#limitBytes) {
      this.#limitBytes = Math.min(this.#maxBytes, this.#limitBytes * 2);
    }
    const hardlyAny = this.#outstandingBytes < minBytes / 2;
    if (!hardlyAny && this.#spentSinceGrant === 0) return 0;
    const own = this.#outstandingBytes + this.#heldBytes;
    const ofMinimum = Math.min(minBytes - own, freeBytes);
    const spare = freeBytes - minBytes * (connections - 1);
    const ofSpare = Math.floor((spare - own) / 2);
    const mayHave = Math.min(this.#limitBytes, own + Math.max(ofMinimum, ofSpare));
    const leastBytes = (hardlyAny ? minBytes : Math.max(mayHave, minBytes)) / 4;
    const bytes = mayHave - own;
    if (bytes < leastBytes) return 0;
    this.#outstandingBytes += bytes;
    this.#spentSinceGrant = 0;
    return bytes;
  }

  /** A frame of so many bytes has come. @returns how many of them no credit covered: 0 for a producer that obeys */
  spent(bytes: number): number {
    const covered = Math.min(bytes, this.#outstandingBytes);
    this.#outstandingBytes -= covered;
    this.#heldBytes += bytes;
    this.#spentSinceGrant += bytes;
    return bytes - covered;
  }

  /** Bytes that were spent are durable, or were refused: their space is free again. */
  returned(bytes: number): void {
    if (!(bytes <= this.#heldBytes)) throw new Error(`returned ${bytes} bytes, while ${this.#heldBytes} are held`);
    this.#heldBytes -= bytes;
  }

  /** The connection is gone, and gets no more. @returns its credit, set aside in vain: free again. What is held returns as usual */
  close(): number {
    const bytes = this.#outstandingBytes;
    this.#outstandingBytes = 0;
    this.#limitBytes = 0;
    return bytes;
  }
}
