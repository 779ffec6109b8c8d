// Says once at each change what the log has become: whoever reads the gateway's log lines sees a full disk without a client's help. And
// at level debug what the adaptive window has decided: an interval of it is no shorter than a look, unless it was cut short.

import type { Logger } from 'pino';
import type { LogState } from '../base/types.ts';
import type { WindowStats } from '../pipeline/log-stats.ts';

/** How often it is looked at. A disk that was full for less is not worth a line. */
export const STATE_LOOK_MS = 250;

export class LogStateLines {
  readonly #view: { readonly state: LogState; readonly failure: Error | undefined };
  readonly #log: Pick<Logger, 'info' | 'error'>;
  #last: LogState = 'open';

  constructor(
    view: { readonly state: LogState; readonly failure: Error | undefined },
    log: Pick<Logger, 'info' | 'error'>,
  ) {
    this.#view = view;
    this.#log = log;
  }

  look(): void {
    const { state } = this.#view;
    if (state === this.#last) return;
    const before = this.#last;
    this.#last = state;
    if (state === 'full') this.#log.error('the disk is full: nothing is stored until there is space');
    if (state === 'poisoned') {
      this.#log.error(`nothing is acknowledged any more, restart to recover: ${this.#view.failure?.message ?? state}`);
    }
    if (state === 'open' && before === 'full') this.#log.info('there is space again: the log is open');
  }
}

export class WindowLines {
  readonly #view: { readonly window: WindowStats };
  readonly #log: Pick<Logger, 'debug' | 'warn' | 'info'>;
  #decisions = 0;
  #unreachable = false;

  constructor(view: { readonly window: WindowStats }, log: Pick<Logger, 'debug' | 'warn' | 'info'>) {
    this.#view = view;
    this.#log = log;
  }

  look(): void {
    const { window } = this.#view;
    if (window.decisions === this.#decisions) return;
    this.#decisions = window.decisions;
    this.#log.debug({ window }, `window: linger ${window.lingerMs.toFixed(2)} ms (${window.reason})`);
    if (window.unreachable === this.#unreachable) return;
    this.#unreachable = window.unreachable;
    const slo = `a p99 of ${window.sloP99Ms} ms`;
    if (window.unreachable)
      this.#log.warn(`${slo} is out of reach: a durable write alone takes longer; nothing lingers`);
    else this.#log.info(`${slo} is within reach again`);
  }
}
