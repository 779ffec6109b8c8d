// The table of idempotent producers for accept threads that are not the main one: claims go there and back over a MessagePort,
// so that a retry that lands on another thread than its original finds it.

import type { MessagePort } from 'node:worker_threads';
import type { Dedupe, DedupeTable, Remembered } from '../flow/dedupe.ts';

type ToTable =
  | { readonly kind: 'claim'; readonly claim: number; readonly id: string }
  | {
      readonly kind: 'release';
      readonly claim: number;
      readonly id: string;
      readonly remembered: Remembered | undefined;
    };
type FromTable =
  | { readonly kind: 'claimed'; readonly claim: number; readonly remembered: Remembered | undefined }
  | { readonly kind: 'fence'; readonly claim: number };

/** The thread that holds the table. What a thread holds when its port closes is released. */
export function serveDedupe(table: DedupeTable, port: MessagePort): void {
  const held = new Map<number, string>();
  let open = true;
  const send = (message: FromTable): void => port.postMessage(message);
  const claim = async (number: number, id: string): Promise<void> => {
    const remembered = await table.claim(id, () => send({ kind: 'fence', claim: number }));
    if (!open) return table.release(id, undefined);
    held.set(number, id);
    send({ kind: 'claimed', claim: number, remembered });
  };
  port.on('message', (message: ToTable) => {
    if (message.kind === 'claim') return void claim(message.claim, message.id);
    held.delete(message.claim);
    table.release(message.id, message.remembered);
  });
  port.on('close', () => {
    open = false;
    for (const id of held.values()) table.release(id, undefined);
  });
}

/** The other end. */
export class RemoteDedupe implements Dedupe {
  readonly #port: MessagePort;
  readonly #open = new Map<
    number,
    { readonly resolve: (r: Remembered | undefined) => void; readonly onFence: () => void }
  >();
  /** Claim that an entry is held under. */
  readonly #claimOf = new Map<string, number>();
  #next = 1;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (message: FromTable) => {
      const claim = this.#open.get(message.claim);
      if (message.kind === 'fence') claim?.onFence();
      else claim?.resolve(message.remembered);
    });
    // Requests keep the process alive, not this.
    port.unref();
  }

  async claim(id: string, onFence: () => void = () => undefined): Promise<Remembered | undefined> {
    const claim = this.#next++;
    const remembered = await new Promise<Remembered | undefined>((resolve) => {
      this.#open.set(claim, { resolve, onFence });
      this.#port.postMessage({ kind: 'claim', claim, id } satisfies ToTable);
    });
    this.#claimOf.set(id, claim);
    return remembered;
  }

  release(id: string, remembered: Remembered | undefined): void {
    const claim = this.#claimOf.get(id);
    if (claim === undefined) throw new Error('released without a claim');
    this.#claimOf.delete(id);
    this.#open.delete(claim);
    this.#port.postMessage({ kind: 'release', claim, id, remembered } satisfies ToTable);
  }
}
