// Values as text, and back: sizes, and whatever came where something else was expected.

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const units = new Map([
  ['', 1],
  ['b', 1],
  ['kib', KIB],
  ['mib', MIB],
  ['gib', GIB],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
]);

/** `'1MiB'` → 1048576; undefined where the text is not a size. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = match === null ? undefined : units.get(match[2].toLowerCase());
  return match === null || unit === undefined ? undefined : Number(match[1]) * unit;
}

/** 1048576 → `'1MiB'`: the largest unit that divides it. */
export function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}

/** A value as one short line, whatever it holds. */
export function show(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  const text = String(value);
  const json = JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}…` : text).slice(1, -1);
  // JSON leaves DEL, the control characters above it and two ends of lines as they are.
  const line = json.replace(/[\p{Cc}\u2028\u2029]/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return typeof value === 'string' ? `'${line}'` : line;
}
