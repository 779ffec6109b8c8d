// A disk that fails at chosen calls: JsIo with a fault table. Remembers every sync by descriptor and path, so that a
// test can show that none was tried twice.

import { SpillwayError } from '../../src/base/errors.ts';
import { ioError } from '../../src/platform/file-io.ts';
import { JsIo } from '../../src/platform/js-io.ts';

export type FaultyCall = 'open' | 'write' | 'durableWrite' | 'sync' | 'syncDir' | 'rename' | 'unlink' | 'allocate';

export interface Fault {
  readonly call: FaultyCall;
  /** The file's name must match. */
  readonly path?: RegExp;
  /** Fails at this matching call, counted from 1, and at every one behind it while `times` lasts. */
  readonly at?: number;
  readonly times?: number;
  readonly errno: string;
  /** For writes: this many bytes get to the file before the error. */
  readonly shortBytes?: number;
  /** Told of each failure, before it is thrown; may make room or look at the state. */
  readonly onFail?: () => void;
}

export class FaultyIo extends JsIo {
  faults: Fault[] = [];
  /** Every sync that was tried, with its outcome. */
  readonly syncs: { fd: number; opened: number; path: string; failed: boolean }[] = [];
  readonly #seen = new Map<Fault, number>();
  /** A descriptor number is used again after close: opens are numbered. */
  readonly #opened = new Map<number, number>();
  #opens = 0;

  /** Syncs tried on a descriptor on which one had failed before. */
  get syncsAfterFailure(): number {
    const failed = new Set<number>();
    let again = 0;
    for (const s of this.syncs) {
      if (failed.has(s.opened)) again++;
      if (s.failed) failed.add(s.opened);
    }
    return again;
  }

  override open(path: string, how: 'read' | 'write' | 'create', direct: boolean): number {
    this.#maybeFail('open', path);
    const fd = super.open(path, how, direct);
    this.#opened.set(fd, ++this.#opens);
    return fd;
  }

  override allocate(fd: number, bytes: number): void {
    this.#maybeFail('allocate', this.pathOf(fd));
    super.allocate(fd, bytes);
  }

  override write(fd: number, bytes: Uint8Array, position: number): void {
    this.#maybeFail('write', this.pathOf(fd), (short) => super.write(fd, bytes.subarray(0, short), position));
    super.write(fd, bytes, position);
  }

  override durableWrite(fd: number, bytes: Uint8Array, position: number): void {
    this.#maybeFail('durableWrite', this.pathOf(fd), (short) => super.write(fd, bytes.subarray(0, short), position));
    super.durableWrite(fd, bytes, position);
  }

  override sync(fd: number): void {
    const entry = { fd, opened: this.#opened.get(fd) ?? -1, path: this.pathOf(fd), failed: true };
    this.syncs.push(entry);
    this.#maybeFail('sync', entry.path);
    super.sync(fd);
    entry.failed = false;
  }

  override syncDir(path: string): void {
    this.#maybeFail('syncDir', path);
    super.syncDir(path);
  }

  override rename(from: string, to: string): void {
    this.#maybeFail('rename', to);
    super.rename(from, to);
    // A descriptor opened under the old name now belongs to the new one.
    for (const [fd, path] of this.paths) if (path === from) this.paths.set(fd, to);
  }

  override unlink(path: string): void {
    this.#maybeFail('unlink', path);
    super.unlink(path);
  }

  #maybeFail(call: FaultyCall, path: string, short: (bytes: number) => void = () => undefined): void {
    for (const fault of this.faults) {
      if (fault.call !== call || (fault.path !== undefined && !fault.path.test(path))) continue;
      const seen = (this.#seen.get(fault) ?? 0) + 1;
      this.#seen.set(fault, seen);
      const at = fault.at ?? 1;
      if (seen < at || seen >= at + (fault.times ?? Infinity)) continue;
      fault.onFail?.();
      if (fault.shortBytes !== undefined) short(fault.shortBytes);
      const error: SpillwayError = ioError(Object.assign(new Error(fault.errno), { code: fault.errno }), call, path);
      throw error;
    }
  }
}
