// spillway sample: generated events, one JSON object per line, the same for the same seed. For trying things out where
// no data is at hand.

import { once } from 'node:events';
import { seededRandom } from '../base/clock.ts';

const types = [
  'order.created',
  'order.paid',
  'order.shipped',
  'cart.updated',
  'user.login',
  'page.view',
  'device.telemetry',
];
const regions = ['eu-west', 'eu-north', 'us-east', 'us-west', 'ap-south'];

/** One event as JSON, about 200 bytes. */
function sampleEvent(n: number, random: () => number): string {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  return JSON.stringify({
    id: `evt_${n.toString(36).padStart(8, '0')}`,
    type: pick(types),
    at: new Date(Date.UTC(2026, 0, 1) + n * 37).toISOString(),
    region: pick(regions),
    user: Math.floor(random() * 50_000),
    amountCents: Math.floor(random() ** 3 * 100_000),
    items: Array.from({ length: 1 + Math.floor(random() * 3) }, () => `sku-${Math.floor(random() * 9000) + 1000}`),
    ok: random() > 0.02,
  });
}

export async function sampleCommand(records: number, seed: number): Promise<number> {
  const random = seededRandom(seed);
  for (let n = 0; n < records;) {
    let text = '';
    for (const end = Math.min(records, n + 500); n < end; n++) text += `${sampleEvent(n, random)}\n`;
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
  }
  return 0;
}
