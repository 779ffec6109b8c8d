// The two clocks of a connection: one for what its state waits for, one for a frame that has begun to arrive. Neither keeps the
// process alive.

export class Deadlines {
  #timer: NodeJS.Timeout | undefined;
  #frame: NodeJS.Timeout | undefined;

  /** Whether the state has one running. */
  get running(): boolean {
    return this.#timer !== undefined;
  }

  /** For the state; takes the place of the one before. */
  set(ms: number, onOver: () => void): void {
    this.clear();
    this.#timer = setTimeout(onOver, ms).unref();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** For a frame, from now on; called again, the time begins anew. `onOver` has to ask whether there still is one. */
  startFrame(ms: number, onOver: () => void): void {
    if (this.#frame === undefined) this.#frame = setTimeout(onOver, ms).unref();
    else this.#frame.refresh();
  }

  /** The time of the frame begins anew, if it has begun. */
  refreshFrame(): void {
    this.#frame?.refresh();
  }

  stop(): void {
    this.clear();
    clearTimeout(this.#frame);
    this.#frame = undefined;
  }
}
