// One run of the generator: pattern and target out of options, bounded by them, and what it said.

import { seededRandom } from '../base/clock.ts';
import { SpillwayError } from '../base/errors.ts';
import { show } from '../base/options.ts';
import { connect } from '../client/connect.ts';
import { SpillwayLog } from '../pipeline/open.ts';
import { appendTarget, type Appender } from './append-target.ts';
import { constantArrivals, onOffArrivals, poissonArrivals, traceArrivals, upTo, type Arrivals } from './arrivals.ts';
import { offer, type Plan, type Target } from './generator.ts';
import { httpTarget } from './http-target.ts';
import { MAX_ARRIVALS, type LoadOptions } from './options.ts';
import { reportOf, type LoadReport } from './report.ts';
import { readTrace } from './trace.ts';

/** How long requests may take whose answer has not come when the last was offered. */
const GRACE_MS = 10_000;
const CONNECT_TIMEOUT_MS = 3000;

/** When requests are due. @throws INVALID_OPTION for a trace that cannot be read */
export function planOf(options: LoadOptions): Plan {
  const { pattern, trace, timeScale, seed } = options;
  const perSecond = options.rate / options.perRequest;
  let endMs = options.seconds * 1000;
  let arrivals: Arrivals;
  if (pattern === 'trace' && trace !== undefined) {
    const times = readTrace(trace);
    arrivals = traceArrivals(times, timeScale);
    // Behind the last arrival: that one counts too.
    endMs = Math.min(endMs, times[times.length - 1] / timeScale + 1);
  } else if (pattern === 'poisson') arrivals = poissonArrivals(perSecond, seededRandom(seed));
  else if (pattern === 'onoff') arrivals = onOffArrivals(perSecond, seededRandom(seed));
  else arrivals = constantArrivals(perSecond);
  return { arrivals: upTo(arrivals, endMs, MAX_ARRIVALS), endMs, graceMs: GRACE_MS };
}

async function connected(options: LoadOptions): Promise<Target> {
  const { target, token, connections } = options;
  const clientOptions = {
    giveUpMs: GRACE_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    ...(token === undefined ? {} : { token }),
  };
  const made = await Promise.allSettled(Array.from({ length: connections }, () => connect(target, clientOptions)));
  const clients = made.filter((m) => m.status === 'fulfilled').map((m) => m.value as Appender);
  const failed = made.find((m) => m.status === 'rejected');
  if (failed !== undefined) {
    await Promise.allSettled(clients.map((client) => client.close()));
    throw failed.reason;
  }
  return appendTarget(clients, options);
}

async function targetOf(options: LoadOptions): Promise<Target> {
  const { target, dir } = options;
  if (target === 'embedded') return appendTarget([await SpillwayLog.open({ dir })], options);
  if (/^https?:\/\//.test(target)) return httpTarget(target, options);
  if (/^(?:tcps?:\/\/|unix:)/.test(target)) return connected(options);
  throw new SpillwayError(
    'INVALID_OPTION',
    `option 'target': expected http(s)://HOST:PORT, tcp(s)://HOST:PORT, unix:PATH or embedded, got ${show(target)}`,
    { subject: 'target' },
  );
}

/**
 * Offers the load. @param signal ends it early
 * @throws INVALID_OPTION, and whatever `open` or `connect` rejects with
 */
export async function runLoad(options: LoadOptions, signal?: AbortSignal): Promise<LoadReport> {
  const plan = planOf(options);
  const target = await targetOf(options);
  try {
    const { token: _secret, ...setting } = options;
    return reportOf(await offer(target, plan, undefined, signal), options, setting);
  } finally {
    await target.close();
  }
}
