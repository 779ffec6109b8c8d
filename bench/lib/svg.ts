// A line plot as SVG text: axes from zero with round steps, labels, a legend, and levels that mean something (a limit, a target).
// No script, no font of its own, no network: a file that any browser and any document shows.

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Drawn as a cross behind the last point: it was ended there. */
  readonly endsHere?: boolean;
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  /** Words for x = 0, 1, 2 …, where x is no quantity. */
  readonly xLabels?: readonly string[];
  readonly y: string;
  readonly series: readonly Series[];
  /** Dashed, right across. */
  readonly levels?: readonly { readonly name: string; readonly y: number }[];
}

const WIDTH = 760;
const HEIGHT = 360;
const LEFT = 70;
const RIGHT = 20;
const TOP = 36;
const BOTTOM = 76;
const STEPS = 6;
/** Told apart by those who do not see all colours too (Okabe and Ito). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];

/** Steps of 1, 2 or 5 times a power of ten, so that about `STEPS` of them reach `most`. */
export function ticks(most: number): number[] {
  if (!(most > 0) || !Number.isFinite(most)) return [0, 1];
  const rough = most / STEPS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((n) => n * power >= rough) ?? 10);
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => escapes[c]);
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escapeXml(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, more: string): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map((n) => n.toFixed(1));
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" ${more}/>`;
}

export function linePlot({ title, x, xLabels, y, series, levels = [] }: Plot): string {
  const points = series.flatMap((s) => s.points);
  const xTicks = xLabels?.map((_, i) => i) ?? ticks(Math.max(...points.map((p) => p[0]), 0));
  const yTicks = ticks(Math.max(...points.map((p) => p[1]), ...levels.map((l) => l.y), 0));
  const atX = (value: number): number => LEFT + (value / xTicks.at(-1)!) * (WIDTH - LEFT - RIGHT);
  const atY = (value: number): number => HEIGHT - BOTTOM - (value / yTicks.at(-1)!) * (HEIGHT - TOP - BOTTOM);
  const middle = (LEFT + WIDTH - RIGHT) / 2;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text(middle, 20, title, ' text-anchor="middle" font-size="14"'),
    text(middle, HEIGHT - BOTTOM + 36, x, ' text-anchor="middle"'),
    text(0, 0, y, ` text-anchor="middle" transform="translate(16 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"`),
  ];
  for (const value of yTicks) {
    parts.push(line(LEFT, atY(value), WIDTH - RIGHT, atY(value), 'stroke="#ddd"'));
    parts.push(text(LEFT - 6, atY(value) + 4, value.toLocaleString('en-US'), ' text-anchor="end"'));
  }
  for (const value of xTicks) {
    parts.push(line(atX(value), HEIGHT - BOTTOM, atX(value), HEIGHT - BOTTOM + 4, 'stroke="#555"'));
    parts.push(
      text(
        atX(value),
        HEIGHT - BOTTOM + 18,
        xLabels?.[value] ?? value.toLocaleString('en-US'),
        ' text-anchor="middle"',
      ),
    );
  }
  parts.push(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, 'stroke="#555"'));
  for (const level of levels) {
    parts.push(line(LEFT, atY(level.y), WIDTH - RIGHT, atY(level.y), 'stroke="#555" stroke-dasharray="6 4"'));
    parts.push(text(WIDTH - RIGHT - 4, atY(level.y) - 4, level.name, ' text-anchor="end" fill="#555"'));
  }
  series.forEach((s, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const path = s.points.map((p) => `${atX(p[0]).toFixed(1)},${atY(p[1]).toFixed(1)}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.8"/>`);
    const last = s.points.at(-1);
    if (s.endsHere === true && last !== undefined) {
      const [cx, cy] = [atX(last[0]), atY(last[1])];
      parts.push(line(cx - 6, cy - 6, cx + 6, cy + 6, `stroke="${colour}" stroke-width="3"`));
      parts.push(line(cx - 6, cy + 6, cx + 6, cy - 6, `stroke="${colour}" stroke-width="3"`));
    }
    const legendX = LEFT + (i * (WIDTH - LEFT - RIGHT)) / Math.max(1, series.length);
    parts.push(line(legendX, HEIGHT - 18, legendX + 22, HEIGHT - 18, `stroke="${colour}" stroke-width="3"`));
    parts.push(text(legendX + 28, HEIGHT - 14, s.name));
  });
  return `${parts.join('\n')}\n</svg>\n`;
}
