// A heat map as SVG text: a cell per pair of column and row with its figure in it, a line around what stays below a limit, and a frame
// around one cell. No script, no font of its own, no network. Colours go from light to dark with the figure, so it prints in grey.

export interface HeatMap {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** By row, then by column, both as drawn: from the bottom, from the left. */
  readonly values: readonly (readonly number[])[];
  readonly unit: string;
  /** The line runs between what is at most this and what is above it. */
  readonly limit: { readonly name: string; readonly value: number };
  readonly chosen: { readonly name: string; readonly column: number; readonly row: number };
}

const CELL_WIDTH = 44;
const CELL_HEIGHT = 26;
const LEFT = 90;
const TOP = 44;
const RIGHT = 20;
const BOTTOM = 92;
const LEGEND_WIDTH = 800;
/** Light to dark, told apart by those who do not see all colours too (viridis, reversed). */
const stops = [
  [253, 231, 37],
  [94, 201, 98],
  [33, 145, 140],
  [59, 82, 139],
  [68, 1, 84],
] as const;

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function text(x: number, y: number, content: string, more = ''): string {
  const escaped = content.replace(/[&<>"]/g, (c) => escapes[c]);
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escaped}</text>`;
}

function rect(x: number, y: number, width: number, height: number, more: string): string {
  return `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width}" height="${height}" ${more}/>`;
}

/** @param share 0 … 1 */
function colour(share: number): string {
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  const mixed = stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (at - low)));
  return `rgb(${mixed.join(',')})`;
}

/** Three digits that tell something. */
const short = (value: number): string =>
  value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));

export function heatMap({ title, x, y, columns, rows, values, unit, limit, chosen }: HeatMap): string {
  const width = Math.max(LEGEND_WIDTH, LEFT + columns.length * CELL_WIDTH + RIGHT);
  const height = TOP + rows.length * CELL_HEIGHT + BOTTOM;
  const floor = TOP + rows.length * CELL_HEIGHT;
  // Twice the limit is as dark as it gets: how far beyond is no matter.
  const most = 2 * limit.value;
  const atX = (column: number): number => LEFT + column * CELL_WIDTH;
  const atY = (row: number): number => floor - (row + 1) * CELL_HEIGHT;
  const middle = LEFT + (columns.length * CELL_WIDTH) / 2;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(middle, 24, title, ' text-anchor="middle" font-size="14"'),
    text(middle, floor + 36, x, ' text-anchor="middle"'),
    text(0, 0, y, ` text-anchor="middle" transform="translate(18 ${(TOP + floor) / 2}) rotate(-90)"`),
    ...columns.map((name, c) => text(atX(c) + CELL_WIDTH / 2, floor + 16, name, ' text-anchor="middle"')),
    ...rows.map((name, r) => text(LEFT - 6, atY(r) + 17, name, ' text-anchor="end"')),
  ];
  const isOver = (row: number, column: number): boolean => values[row][column] > limit.value;
  const edges: string[] = [];
  values.forEach((line, r) =>
    line.forEach((value, c) => {
      const ink = value / most > 0.5 ? 'white' : 'black';
      parts.push(rect(atX(c), atY(r), CELL_WIDTH, CELL_HEIGHT, `fill="${colour(value / most)}"`));
      const label = ` text-anchor="middle" font-size="10" fill="${ink}"`;
      parts.push(text(atX(c) + CELL_WIDTH / 2, atY(r) + 17, short(value), label));
      if (c > 0 && isOver(r, c) !== isOver(r, c - 1)) edges.push(`M${atX(c)} ${atY(r)}v${CELL_HEIGHT}`);
      if (r > 0 && isOver(r, c) !== isOver(r - 1, c)) edges.push(`M${atX(c)} ${atY(r) + CELL_HEIGHT}h${CELL_WIDTH}`);
    }),
  );
  parts.push(`<path d="${edges.join('')}" fill="none" stroke="#d55e00" stroke-width="3"/>`);
  const frame = 'fill="none" stroke="black" stroke-width="3"';
  parts.push(rect(atX(chosen.column) + 1, atY(chosen.row) + 1, CELL_WIDTH - 2, CELL_HEIGHT - 2, frame));
  const legend = height - 22;
  stops.forEach((_, i) =>
    parts.push(rect(LEFT + i * 24, legend - 10, 24, 12, `fill="${colour(i / (stops.length - 1))}"`)),
  );
  parts.push(text(LEFT + 128, legend, `0 … ${short(most)} ${unit} and more`));
  const beside = LEFT + 300;
  parts.push(
    `<path d="M${beside} ${legend - 4}h24" stroke="#d55e00" stroke-width="3"/>`,
    text(beside + 30, legend, limit.name),
  );
  parts.push(rect(beside + 260, legend - 11, 24, 14, frame), text(beside + 290, legend, chosen.name));
  return `${parts.join('\n')}\n</svg>\n`;
}
