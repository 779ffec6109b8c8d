// The adaptive window: how long a batch lingers, out of what records took, so that their p99 stays under an SLO and a durable write
// is shared by as many of them as that allows. Pure functions: who asks brings the figures and keeps the state.
//
//     figures of a control interval ──▶ decide(law, sloMs, state, figures) ──▶ state: the linger from now on, and why
//
// Only the linger moves. maxRecords and maxBytes stay what the user set: they bound memory, and under load they close batches earlier.
// 0 ≤ linger ≤ goal, where goal = SLO − margin, margin = MARGIN × SLO: the p99 is known to 1.6 % and moves from one look to the next.
//
// Law `aimd`, plain, after D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer
// Networks" (1989):
//
//     p99 > SLO              linger ← linger / 2
//     p99 < goal             linger ← linger + SLO / 20
//     between                as it is
//
// It needs a breach to know that it went too far, gives up half for a hiccup of the disk, and a sawtooth holds three quarters of
// what there is on average. One writer has nobody to share fairly with, which is what AIMD is for; and here, unlike there, what is
// asked for is what one gets: a record waits for the linger, and then for the rest. So the default, law `headroom`, does the subtraction:
//
//     rest = what records took beyond the linger that held then, p99 over the last seconds (`Recent`), and not less than the median
//            durable write: where sizes close batches, records take less than the linger. Of records, not of writes: who comes late
//            into a batch has waited less, and can bear more (by the p99 of writes the linger would be 2 ms shorter on a disk of
//            which 1 write in 20 takes 5 ms longer, test/support/window-plant.ts)
//     room = goal − rest, within floor … goal, where floor = SLO / 20: if the rest alone takes the SLO, a longer linger is not what breaks
//            it; and none at all would add many small writes to what is too much already
//
//     durable write p99 > SLO     0: the SLO is out of reach, whatever the window; over once the disk recovers
//     room < linger               linger ← room, at once: the rest leaves no more
//     p99 > SLO, twice in a row   linger ← goal − (p99 − linger), not below half: the tail does not explain it yet (the load fell: few new
//                                 records against many old ones). Once may be a hiccup: 1 % of an interval are 2.5 ms of it
//     nobody comes                records of a batch came together, or alone, so that waiting brings nobody along: clients that wait for
//                                 their answers do that. linger ← 0, and no growth for PAUSE_MS, doubling up to MAX_PAUSE_MS
//     sizes close the batches     as it is: the linger decides nothing now, and what it may be later is not known
//     linger < room − band        linger ← at most twice as much and at most half of the way: no step is larger than what is left
//     between                     as it is. The band keeps it from following noise
//
// Nobody comes: records that come independently of each other bring rate × linger along in each batch; and with n in a batch the first
// waits the whole linger and the others half of it on average, (n + 1) / 2n of it each. One client that waits for each answer has batches
// of 1 whatever the linger, and of many such clients all wait the whole linger. Less than COMPANY of what independent ones would
// show of either counts as nobody. The second is judged only where the rest takes less than half of the linger: beside a disk that
// stalls they wait for that.

/** Of the SLO. Less costs breaches by noise, more costs writes: linger is goal − rest, writes go with 1 / linger. */
export const MARGIN = 0.05;
/** Of the SLO: what law aimd adds, and the least that law headroom adds. */
const STEP = 1 / 20;
const LEAST_STEP = 1 / 40;
/** Of the SLO: a linger below is none. */
const LEAST_LINGER = 1 / 100;
/** Of the SLO: what there is room for in any case. */
const FLOOR = 1 / 20;
/** Of the SLO: so far below the room it may stay. */
const BAND = 0.02;
/** Share of batches that sizes closed from which on the linger is taken to decide nothing. */
const BY_SIZE = 0.5;
/** Nobody comes: judged from so much of the SLO on, by this share of what independent arrivals would show. */
const JUDGED_LINGER = 1 / 10;
const COMPANY = 0.25;
/** Independent arrivals would bring so many along: of fewer nothing can be said, or nothing by how long they waited. */
const TELLING = 0.5;
const TELLING_WAITS = 2;
const PAUSE_MS = 5000;
const MAX_PAUSE_MS = 60_000;

export const windowLaws = ['headroom', 'aimd'] as const;
export type WindowLaw = (typeof windowLaws)[number];

/**
 * Why the linger is what it is: nothing is known yet · it grew · it is where it should be · the rest takes more than it did · the p99 is above the
 * SLO · sizes close the batches · waiting brings nobody along · a durable write alone takes more than the SLO.
 */
export const windowReasons = ['start', 'grow', 'hold', 'tail', 'breach', 'size', 'company', 'unreachable'] as const;
export type WindowReason = (typeof windowReasons)[number];

/** What was seen in a control interval. */
export interface Observation {
  readonly nowMs: number;
  /** Records that were acknowledged; more than 0. */
  readonly samples: number;
  /** Their p99, from append to acknowledged. */
  readonly p99Ms: number;
  /** p99 over the last seconds of what records took beyond the linger that held then. */
  readonly restP99Ms: number;
  /** Median and p99 over the last seconds of one durable write. */
  readonly writeP50Ms: number;
  readonly writeP99Ms: number;
  readonly recordsPerBatch: number;
  /** Share of the batches that closed by records or bytes, 0 … 1. */
  readonly bySize: number;
  /** What records waited before their batch closed, on average, as a part of the linger, or of a durable write where that takes longer. */
  readonly waited: number;
  /** Records that came in the linger that holds, on average: rate × linger. */
  readonly perLinger: number;
}

export interface WindowState {
  readonly lingerMs: number;
  readonly reason: WindowReason;
  /** Of the last interval; undefined before the first. */
  readonly p99Ms: number | undefined;
  /** Intervals that were decided, and those of them whose p99 was above the SLO. */
  readonly decisions: number;
  readonly breaches: number;
  /** Breaches up to now without one interval between that kept the SLO. */
  readonly inARow: number;
  readonly unreachable: boolean;
  /** The linger of the last interval that kept the SLO; undefined while there was none. */
  readonly goodMs: number | undefined;
  /** Nobody came: no growth before then, and how long that was. */
  readonly pausedUntilMs: number;
  readonly pauseMs: number;
}

/** The largest linger that an SLO allows: as much as would be left if nothing else took any time. */
export function goalMs(sloMs: number): number {
  return sloMs * (1 - MARGIN);
}

/** @param fromMs the last good linger of an earlier run, or 0 */
export function startState(sloMs: number, fromMs = 0): WindowState {
  return {
    lingerMs: Math.min(Math.max(0, fromMs), goalMs(sloMs)),
    reason: 'start',
    p99Ms: undefined,
    decisions: 0,
    breaches: 0,
    inARow: 0,
    unreachable: false,
    goodMs: undefined,
    pausedUntilMs: 0,
    pauseMs: PAUSE_MS,
  };
}

/**
 * After a silence that is longer than the memory of the tail: of what was known then, half is taken for granted. After M. Handley, J. Padhye
 * and S. Floyd, "TCP Congestion Window Validation" (RFC 2861, 2000).
 */
export function afterSilence(state: WindowState): WindowState {
  return { ...state, lingerMs: state.lingerMs / 2, reason: 'start', inARow: 0 };
}

interface Move {
  readonly lingerMs: number;
  readonly reason: WindowReason;
  readonly pausedUntilMs?: number;
  readonly pauseMs?: number;
}

function additive(sloMs: number, { lingerMs }: WindowState, { p99Ms }: Observation): Move {
  if (p99Ms > sloMs) return { lingerMs: lingerMs / 2, reason: 'breach' };
  if (p99Ms < goalMs(sloMs)) return { lingerMs: lingerMs + STEP * sloMs, reason: 'grow' };
  return { lingerMs, reason: 'hold' };
}

/** Whether a linger brings nobody along. */
function isForNobody(sloMs: number, lingerMs: number, seen: Observation): boolean {
  const { recordsPerBatch: n, waited, perLinger, restP99Ms } = seen;
  if (lingerMs < JUDGED_LINGER * sloMs || perLinger < TELLING) return false;
  if (n - 1 < COMPANY * perLinger) return true;
  const independent = 1 - (n + 1) / (2 * n);
  const isOfLinger = perLinger >= TELLING_WAITS && restP99Ms < lingerMs / 2;
  return isOfLinger && 1 - waited < COMPANY * independent;
}

function headroom(sloMs: number, state: WindowState, seen: Observation): Move {
  const { lingerMs } = state;
  const isBreach = seen.p99Ms > sloMs;
  const goal = goalMs(sloMs);
  const roomMs = Math.min(goal, Math.max(FLOOR * sloMs, goal - Math.max(seen.restP99Ms, seen.writeP50Ms)));
  const bandMs = BAND * sloMs;
  if (isBreach && state.inARow > 0) {
    const leftMs = Math.max(lingerMs / 2, goal - (seen.p99Ms - lingerMs));
    return { lingerMs: Math.min(lingerMs, roomMs, leftMs), reason: 'breach' };
  }
  if (roomMs < lingerMs - bandMs) return { lingerMs: roomMs, reason: isBreach ? 'breach' : 'tail' };
  if (isBreach) return { lingerMs, reason: 'breach' };
  if (seen.bySize >= BY_SIZE) return { lingerMs, reason: 'size' };
  if (isForNobody(sloMs, lingerMs, seen)) {
    const pausedUntilMs = seen.nowMs + state.pauseMs;
    const pauseMs = Math.min(MAX_PAUSE_MS, 2 * state.pauseMs);
    return { lingerMs: 0, reason: 'company', pausedUntilMs, pauseMs };
  }
  if (lingerMs >= roomMs - bandMs) return { lingerMs, reason: 'hold', pauseMs: PAUSE_MS };
  if (seen.nowMs < state.pausedUntilMs) return { lingerMs, reason: 'company' };
  const stepMs = Math.max(LEAST_STEP * sloMs, Math.min(lingerMs, (roomMs - lingerMs) / 2));
  return { lingerMs: Math.min(roomMs, lingerMs + stepMs), reason: 'grow' };
}

/** The state after an interval. */
export function decide(law: WindowLaw, sloMs: number, state: WindowState, seen: Observation): WindowState {
  const isBreach = seen.p99Ms > sloMs;
  const unreachable = seen.writeP99Ms > sloMs;
  const move: Move = unreachable
    ? { lingerMs: 0, reason: 'unreachable' }
    : law === 'aimd'
      ? additive(sloMs, state, seen)
      : headroom(sloMs, state, seen);
  const clampedMs = Math.min(goalMs(sloMs), Math.max(0, move.lingerMs));
  return {
    lingerMs: clampedMs < LEAST_LINGER * sloMs ? 0 : clampedMs,
    reason: move.reason,
    p99Ms: seen.p99Ms,
    decisions: state.decisions + 1,
    breaches: state.breaches + (isBreach ? 1 : 0),
    inARow: isBreach ? state.inARow + 1 : 0,
    unreachable,
    goodMs: isBreach ? state.goodMs : state.lingerMs,
    pausedUntilMs: move.pausedUntilMs ?? state.pausedUntilMs,
    pauseMs: move.pauseMs ?? state.pauseMs,
  };
}
