// What a client may send, as both sides count it: what it was granted less what it sent. Below zero only by a frame that was sent
// while nothing was under way; whoever sends a record larger than its credit would wait for ever otherwise.

import { protocolError } from '../codec/frames.ts';
import type { ConnectionCredits } from './tcp-host.ts';

export class Allowance {
  readonly #credits: ConnectionCredits;
  #bytes = 0;

  constructor(credits: ConnectionCredits) {
    this.#credits = credits;
  }

  /** Bytes for a CREDIT frame now; 0: none. */
  grant(): number {
    const bytes = this.#credits.grant();
    this.#bytes += bytes;
    return bytes;
  }

  /**
   * An APPEND of so many bytes has begun to arrive.
   * @param alone whether nothing else is under way
   * @returns undefined where there is room for it. Else resolves once there is, with the bytes for a CREDIT frame
   * @throws PROTOCOL_ERROR
   */
  spend(bytes: number, alone: boolean): Promise<number> | undefined {
    if (bytes > this.#bytes && !alone) throw protocolError(`APPEND of ${bytes} bytes with a credit of ${this.#bytes}`);
    const missing = bytes - Math.max(0, this.#bytes);
    this.#bytes -= bytes;
    const room = this.#credits.spent(bytes);
    return missing > 0 ? this.#find(missing, room) : undefined;
  }

  async #find(missing: number, room: Promise<void> | undefined): Promise<number> {
    await room;
    this.#bytes += missing;
    return missing;
  }

  /** So much of what was spent is answered. */
  returned(bytes: number): void {
    if (bytes > 0) this.#credits.returned(bytes);
  }

  close(): void {
    this.#credits.close();
  }
}
