// The configuration file of `spillway serve`: YAML, read into flat entries that know their line.
// Promises: at most CONFIG_BYTES are read; one document, UTF-8, a table at the top; a syntax error, a key given twice or a
// tag nobody knows is one line with file and line; aliases cost one walk through the document, however many there are. What a key means
// is not known here (config.ts).

import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, visit, type Document, type YAMLMap } from 'yaml';
import { SpillwayError, reasonOf } from '../base/errors.ts';
import { show } from '../base/options.ts';
import { readBounded } from '../platform/bounded-file.ts';

/** Largest file; a nest of brackets this deep is still parsed without exhausting the stack. */
const CONFIG_BYTES = 64 * 1024;
/** Longest message: those of the parser may hold as much of the file as it took for one word. */
const MESSAGE_CHARACTERS = 300;

export interface FileEntry {
  /** Dotted, such as `window.maxRecords` or `streams.orders.overflow`. */
  readonly name: string;
  /** Set where the entry is of one stream: its name may hold dots itself. */
  readonly stream?: { readonly name: string; readonly key: string };
  /** A scalar; of a table or a list, which no option takes, an empty one. */
  readonly value: unknown;
  readonly line: number;
}

function refuse(where: string, message: string, subject: string): never {
  // Messages of the parser may quote the file.
  const line = message.replace(/[\s\p{Cc}]+/gu, ' ').trim();
  const cut = line.length > MESSAGE_CHARACTERS ? `${line.slice(0, MESSAGE_CHARACTERS)}…` : line;
  throw new SpillwayError('INVALID_OPTION', `${where}: ${cut}`, { subject });
}

function readText(path: string): string {
  let bytes: Buffer | undefined;
  try {
    bytes = readBounded(path, CONFIG_BYTES);
  } catch (error) {
    return refuse(path, `option 'config': expected a readable file, got: ${reasonOf(error)}`, 'config');
  }
  if (bytes === undefined) return refuse(path, `option 'config': expected at most ${CONFIG_BYTES} bytes`, 'config');
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return refuse(path, "option 'config': expected UTF-8", 'config');
  }
}

/** What each alias stands for: the node that had its anchor last, before it. `Alias.resolve` walks through the document each time. */
function aliasesOf(document: Document): ReadonlyMap<unknown, unknown> {
  const anchored = new Map<string, unknown>();
  const meant = new Map<unknown, unknown>();
  visit(document, {
    Node: (_, node) => {
      if (isAlias(node)) meant.set(node, anchored.get(node.source));
      else if (node.anchor !== undefined) anchored.set(node.anchor, node);
    },
  });
  return meant;
}

class Entries {
  readonly list: FileEntry[] = [];
  readonly #path: string;
  readonly #aliases: ReadonlyMap<unknown, unknown>;
  readonly #lines: LineCounter;

  constructor(path: string, aliases: ReadonlyMap<unknown, unknown>, lines: LineCounter) {
    this.#path = path;
    this.#aliases = aliases;
    this.#lines = lines;
  }

  top(map: YAMLMap): void {
    this.#each(map, (name, value, line) => {
      if (name === 'window') {
        this.#table(name, value, line, (key, inner, at) => this.#add({ name: `window.${key}`, line: at }, inner));
      } else if (name === 'streams') {
        this.#table(name, value, line, (stream, inner, at) => this.#stream(stream, inner, at));
      } else if (name.startsWith('streams.')) {
        const rest = name.slice('streams.'.length);
        const cut = rest.lastIndexOf('.');
        if (cut < 0 || isMap(value)) this.#stream(rest, value, line);
        else this.#add({ name, stream: { name: rest.slice(0, cut), key: rest.slice(cut + 1) }, line }, value);
      } else {
        this.#add({ name, line }, value);
      }
    });
  }

  #stream(name: string, value: unknown, line: number): void {
    this.#table(`streams.${name}`, value, line, (key, inner, at) =>
      this.#add({ name: `streams.${name}.${key}`, stream: { name, key }, line: at }, inner),
    );
  }

  /** An empty table (`window:` with everything below it commented out) is null. */
  #table(name: string, value: unknown, line: number, entry: (key: string, value: unknown, line: number) => void): void {
    if (isMap(value)) return this.#each(value, entry);
    if (value === null || (isScalar(value) && value.value === null)) return;
    const came = isSeq(value) ? [] : isScalar(value) ? value.value : value;
    refuse(`${this.#path}:${line}`, `option '${name}': expected a table, got ${show(came)}`, name);
  }

  #each(map: YAMLMap, entry: (key: string, value: unknown, line: number) => void): void {
    for (const { key, value } of map.items) {
      const at = (key as { range?: readonly number[] | null } | null)?.range?.[0] ?? 0;
      const line = this.#lines.linePos(at).line;
      const name: unknown = isScalar(key) ? key.value : undefined;
      if (typeof name !== 'string') refuse(`${this.#path}:${line}`, 'expected the name of an option', 'config');
      const node = isAlias(value) ? this.#aliases.get(value) : value;
      if (node === undefined) refuse(`${this.#path}:${line}`, `option '${name}': unresolved alias`, name);
      entry(name, node, line);
    }
  }

  #add(entry: Omit<FileEntry, 'value'>, node: unknown): void {
    const value: unknown = isScalar(node) ? node.value : isSeq(node) ? [] : node === null ? null : {};
    this.list.push({ ...entry, value });
  }
}

/** What the file sets, in its order. @throws INVALID_OPTION with file and line */
export function readConfigFile(path: string): FileEntry[] {
  const text = readText(path);
  const lines = new LineCounter();
  let document: Document.Parsed;
  let aliases: ReadonlyMap<unknown, unknown>;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: false });
    aliases = aliasesOf(document);
  } catch (error) {
    return refuse(path, `expected YAML, got: ${reasonOf(error)}`, 'config');
  }
  const wrong = document.errors[0] ?? document.warnings[0];
  if (wrong !== undefined) refuse(`${path}:${lines.linePos(wrong.pos[0]).line}`, wrong.message, 'config');
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === null)) return [];
  if (!isMap(contents)) {
    const line = lines.linePos(contents.range[0]).line;
    refuse(`${path}:${line}`, 'expected a table of options at the top', 'config');
  }
  const entries = new Entries(path, aliases, lines);
  entries.top(contents);
  return entries.list;
}
