// A timer that keeps the process alive only while it is held.

export class Alarm {
  readonly #onRing: () => void;
  #timer: NodeJS.Timeout | undefined;
  #held = true;

  constructor(onRing: () => void) {
    this.#onRing = onRing;
  }

  get isSet(): boolean {
    return this.#timer !== undefined;
  }

  /** One that is set already rings when it was going to. */
  set(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#onRing();
    }, ms);
    this.hold(this.#held);
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  hold(alive: boolean): void {
    this.#held = alive;
    if (alive) this.#timer?.ref();
    else this.#timer?.unref();
  }
}
