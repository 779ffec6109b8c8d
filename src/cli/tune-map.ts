// The heat map of `spillway tune`: p99 by linger and by how many of these records close a batch.

import type { Tuned } from '../load/tune.ts';
import type { Candidate } from '../window/tuner.ts';
import { heatMap } from './heat-map.ts';
import { count, figure } from './output.ts';

type Mapped = Pick<Tuned, 'candidates' | 'chosen' | 'sloP99Ms' | 'arrivals'>;

const ascending = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

/** Windows that close at the same number of these records are one row. */
export function tunedHeatMap({ candidates, chosen, sloP99Ms, arrivals }: Mapped): string {
  const lingers = ascending(candidates.map((c) => c.window.lingerMs));
  const caps = ascending(candidates.map((c) => c.capRecords));
  const at = (cap: number, lingerMs: number): Candidate =>
    candidates.find((c) => c.capRecords === cap && c.window.lingerMs === lingerMs)!;
  return heatMap({
    title: `spillway tune: forecast p99 in ms, ${figure(arrivals.perSecond)} records/s`,
    x: 'linger in ms',
    y: 'records that fill a batch',
    columns: lingers.map(String),
    rows: caps.map(count),
    values: caps.map((cap) => lingers.map((lingerMs) => at(cap, lingerMs).p99Ms)),
    unit: 'ms',
    limit: { name: `the SLO of ${figure(sloP99Ms)} ms`, value: sloP99Ms },
    chosen: {
      name: 'recommended',
      column: lingers.indexOf(chosen.window.lingerMs),
      row: caps.indexOf(chosen.capRecords),
    },
  });
}
