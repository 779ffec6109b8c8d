// The names that a connection of the framed protocol has declared: an APPEND says the number of one.

import { SpillwayError } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import { checkStreamId, decodeStream, protocolError, type Frame } from '../codec/frames.ts';

export class StreamNames {
  /** By stream id; bounded by checkStreamId. */
  readonly #names: (string | SpillwayError)[] = [];

  /** @throws PROTOCOL_ERROR for an id out of bounds. A name that is none is told to whoever appends to it. */
  declare(frame: Frame): void {
    const { streamId } = frame;
    checkStreamId(streamId);
    try {
      this.#names[streamId] = checkStreamName(decodeStream(frame));
    } catch (error) {
      this.#names[streamId] = error as SpillwayError;
    }
  }

  /** The name, or why it is none. @throws PROTOCOL_ERROR where none was declared */
  of(streamId: number): string | SpillwayError {
    const name = this.#names[streamId];
    if (name === undefined) throw protocolError(`APPEND: stream id ${streamId} was not declared`);
    return name;
  }
}
