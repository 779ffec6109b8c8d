// A gateway of the corpus: `spillway serve` in a process of its own, with default limits, and what can be seen of it from outside.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { read } from '../../src/index.ts';
import { gzipSync } from 'node:zlib';
import { ask, bytes, figuresOf, json, ndjson, post, recordsOf, type Figures } from '../support/gateway-talk.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';
import { MIB, SCHEMA_STREAM, type Area } from './case.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
/** As `npm start` does: those of the default options. */
const NODE_FLAGS = ['--max-old-space-size=91', '--max-semi-space-size=4'];
/** Small segments: preallocating large ones costs the disk more than the corpus does. */
const FLAGS = ['--segment-bytes', '16MiB', '--log-level', 'warn'];
const ENDS_WITHIN_MS = 20_000;
const ERROR = 50;
const WARM_ROUNDS = 4;
export const TOKEN = 'the-token-of-the-corpus';

/** The environment without our options: what the shell of a developer sets is not tried here. */
export const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));

const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: [] };

export interface StoredRecord {
  readonly stream: string;
  readonly payload: Uint8Array;
}

export class Subject {
  readonly kind: Area['gateway'];
  readonly http: number;
  readonly tcp: number;
  readonly unix: string;
  readonly dir: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly #top: string;
  readonly #process: GatewayProcess;

  private constructor(
    kind: Area['gateway'],
    top: string,
    gateway: GatewayProcess,
    at: { http: number; tcp: number },
    sumBytes: number,
  ) {
    this.kind = kind;
    this.sumBytes = sumBytes;
    this.#top = top;
    this.#process = gateway;
    this.dir = join(top, 'log');
    this.unix = join(top, 'socket');
    this.http = at.http;
    this.tcp = at.tcp;
    this.headers = kind === 'tokens' ? { authorization: `Bearer ${TOKEN}` } : {};
  }

  static async start(kind: Area['gateway'], node: string): Promise<Subject> {
    const top = temporaryDirectory(`spillway-corpus-${process.pid}-`);
    const [schemaFile, tokens, config] = ['schema.json', 'tokens', 'config.yaml'].map((name) => join(top, name));
    writeFileSync(schemaFile, JSON.stringify(schema));
    writeFileSync(tokens, `${tokenDigest(TOKEN).toString('hex')} corpus\n`);
    writeFileSync(config, `streams:\n  ${SCHEMA_STREAM}:\n    schema: ${schemaFile}\n`);
    const flags = [...FLAGS, '--config', config, ...(kind === 'tokens' ? ['--tokens', tokens] : [])];
    const at = { dir: join(top, 'log'), unix: join(top, 'socket') };
    const gateway = new GatewayProcess({ ...at, flags, node, nodeFlags: NODE_FLAGS, env });
    const addresses = await gateway.listens();
    const explained = execFileSync(node, [main, 'config', 'explain', '--json', ...flags], { env, encoding: 'utf8' });
    const { memory } = JSON.parse(explained) as { memory: { totalBytes: number } };
    return new Subject(kind, top, gateway, addresses, memory.totalBytes);
  }

  /** The same process, and it has not ended. */
  get isAlive(): boolean {
    return this.#process.isAlive;
  }

  get complaints(): readonly string[] {
    return this.#process.complaints(ERROR);
  }

  /** What its options add up to, as `config explain` prints it. */
  readonly sumBytes: number;
  /** Requests for figures so far: they are counted too. */
  asked = 0;

  figures(): Promise<Figures> {
    this.asked++;
    return figuresOf(this.http, this.headers);
  }

  /** A good record over a fresh connection. @returns its offset @throws Error with what came instead */
  async probe(): Promise<number> {
    const { status, text } = await post(this.http, 'good', 'good', { ...bytes, ...this.headers });
    if (status !== 200) throw new Error(`a good record got ${status}: ${text.trim()}`);
    return (JSON.parse(text) as { firstOffset: number }).firstOffset;
  }

  /** Everything that is in the log from that offset on, read beside the gateway. */
  async recordsFrom(from: number): Promise<StoredRecord[]> {
    const found: StoredRecord[] = [];
    for await (const { stream, payload } of read({ dir: this.dir, from })) {
      found.push({ stream, payload: Buffer.from(payload) });
    }
    return found;
  }

  /** Takes what the heaviest good requests take, so that what comes later is not the first of its kind. */
  async warmUp(): Promise<void> {
    const large = `${'x'.repeat(MIB - 2)}\n`.repeat(4);
    const packed = gzipSync(large.repeat(4));
    const object = `{"a":"${'x'.repeat(MIB - 10)}"}`;
    for (let i = 0; i < WARM_ROUNDS; i++) {
      await post(this.http, 'warm', large, { ...ndjson, ...this.headers });
      await post(this.http, 'warm', packed, { ...ndjson, 'content-encoding': 'gzip', ...this.headers });
      await post(this.http, SCHEMA_STREAM, object, { ...json, ...this.headers });
      await ask(this.http, { path: `${recordsOf('warm')}?max=2`, headers: this.headers });
      await this.figures();
    }
  }

  /** Open descriptors; undefined where the system does not tell. */
  descriptors(): number | undefined {
    try {
      return readdirSync(`/proc/${this.#process.pid}/fd`).length;
    } catch {
      return undefined;
    }
  }

  /** Resident memory in bytes, now or at its highest. */
  resident(what: 'VmRSS' | 'VmHWM'): number | undefined {
    try {
      const text = readFileSync(`/proc/${this.#process.pid}/status`, 'utf8');
      return Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(text)![1]) * 1024;
    } catch {
      return undefined;
    }
  }

  /** SIGTERM: a drain. @returns what is wrong with how it ended */
  async end(): Promise<string[]> {
    const wrong: string[] = [];
    this.#process.kill('SIGTERM');
    try {
      const { code, signal } = await within(this.#process.ended, 'it ends after SIGTERM', ENDS_WITHIN_MS);
      if (code !== 0) wrong.push(`it ended with ${signal ?? `code ${code}`} after SIGTERM`);
    } catch (error) {
      wrong.push((error as Error).message);
      this.#process.kill('SIGKILL');
    }
    rmSync(this.#top, { recursive: true, force: true });
    return wrong;
  }
}
