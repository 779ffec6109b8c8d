// Says once at each change what the log has become: whoever reads the gateway's log lines sees a full disk without a client's help.

import type { Logger } from 'pino';
import type { LogState } from '../base/types.ts';

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
