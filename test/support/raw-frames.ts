// The framed protocol over a real socket, by hand: frames go out as the test says, what comes back is decoded and not checked.

import { Raw } from './gateway-talk.ts';
import { Client } from './tcp-pipe.ts';

export class RawFrames extends Client {
  readonly raw: Raw;
  #seen = 0;

  private constructor(raw: Raw) {
    super();
    this.raw = raw;
  }

  static async connect(port: number): Promise<RawFrames> {
    return new RawFrames(await Raw.connect(port));
  }

  send(...frames: readonly Uint8Array[]): void {
    this.raw.write(Buffer.concat(frames));
  }

  /** Waits until what came fits. */
  async hears(condition: () => boolean, what: string): Promise<void> {
    await this.raw.until(() => {
      const { received } = this.raw;
      this.parser.push(received.subarray(this.#seen));
      this.#seen = received.length;
      return condition() ? true : undefined;
    }, what);
  }
}
