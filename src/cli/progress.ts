// A progress bar on a terminal; nothing elsewhere. On stderr, so that results can be piped.

import cliProgress from 'cli-progress';

export class Progress {
  readonly #bar: cliProgress.SingleBar | undefined;

  /** @param total bytes to come; undefined where it is not known, then nothing is shown */
  constructor(title: string, total: number | undefined) {
    if (!process.stderr.isTTY || total === undefined || total === 0) return;
    this.#bar = new cliProgress.SingleBar({
      format: `${title} [{bar}] {percentage}% | {eta_formatted} left`,
      stream: process.stderr,
      clearOnComplete: true,
      hideCursor: true,
    });
    this.#bar.start(total, 0);
  }

  advance(bytes: number): void {
    this.#bar?.increment(bytes);
  }

  stop(): void {
    this.#bar?.stop();
  }
}
