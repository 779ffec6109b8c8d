// The producing half of the model: an event loop that sends what is due and reads acknowledgements, one thing at a time.
// As load/generator.ts does it: a timer until the next is due; whoever is awake sends all that are due; an answer looks for more to send.

import { Histogram } from '../platform/histogram.ts';
import { drawn, type Costs } from './costs.ts';
import type { Load } from './model.ts';

interface Acknowledgement {
  /** Records before this one are durable, and those before `released` have left the lane. */
  readonly end: number;
  readonly released: number;
  /** When the event loop hears of it, unless it is busy. */
  readonly atMs: number;
}

export class Producer {
  readonly #load: Load;
  readonly #costs: Costs;
  readonly #random: () => number;
  readonly #laneRecords: number;
  /** When each record became visible to the commit thread. */
  readonly #publishedMs: Float64Array;
  readonly #acknowledgements: Acknowledgement[] = [];
  #published = 0;
  #counted = 0;
  #sent = 0;
  #released = 0;
  #freeMs = 0;
  #timerAtMs = 0;
  answered = 0;
  busyMs = 0;
  /** From due to answered. */
  readonly latencyUs = new Histogram();

  constructor(load: Load, costs: Costs, random: () => number) {
    this.#load = load;
    this.#costs = costs;
    this.#random = random;
    this.#laneRecords = Math.max(1, Math.floor(load.laneBytes / load.frameBytes));
    this.#publishedMs = new Float64Array(load.arrivalsMs.length);
  }

  /** Records published until then. Times asked for must not go back. */
  publishedBy(ms: number): number {
    while (this.#nextMs() <= ms) this.#step();
    while (this.#counted < this.#published && this.#publishedMs[this.#counted] <= ms) this.#counted++;
    return this.#counted;
  }

  /** When that record will have been published; undefined where not by then. */
  publishes(record: number, untilMs: number): number | undefined {
    while (this.#published <= record && this.#nextMs() <= untilMs) this.#step();
    const atMs = record < this.#published ? this.#publishedMs[record] : Infinity;
    return atMs <= untilMs ? atMs : undefined;
  }

  /** The commit thread has spoken: it is heard at `atMs`. */
  acknowledge(end: number, released: number, atMs: number): void {
    this.#acknowledgements.push({ end, released, atMs });
  }

  /** Whatever is still to be heard. */
  finish(): void {
    while (this.#nextMs() < Infinity) this.#step();
  }

  /** When it does its next thing. */
  #nextMs(): number {
    const heardMs = this.#acknowledgements[0]?.atMs ?? Infinity;
    return Math.max(this.#freeMs, Math.min(this.#timerAtMs, heardMs));
  }

  #step(): void {
    const heard = this.#acknowledgements[0];
    const startMs = this.#nextMs();
    this.#freeMs = startMs;
    if (heard !== undefined && heard.atMs <= startMs && heard.atMs <= this.#timerAtMs) this.#hear(heard);
    this.#pump();
    this.#arm();
    this.busyMs += this.#freeMs - startMs;
  }

  #hear({ end, released }: Acknowledgement): void {
    this.#acknowledgements.shift();
    this.#released = released;
    const { arrivalsMs } = this.#load;
    this.#publishWaiting();
    while (this.answered < end) {
      this.#freeMs += this.#costs.producer.answerMs;
      this.latencyUs.record((this.#freeMs - arrivalsMs[this.answered]) * 1000);
      this.answered++;
      this.#pump();
    }
  }

  get #hasPlace(): boolean {
    return this.#sent < this.#load.arrivalsMs.length && this.#sent - this.answered < this.#load.maxUnderWay;
  }

  #pump(): void {
    const { arrivalsMs } = this.#load;
    while (this.#hasPlace && arrivalsMs[this.#sent] <= this.#freeMs) {
      this.#freeMs += this.#costs.producer.sendMs;
      this.#sent++;
      this.#publishWaiting();
    }
  }

  /** What has been sent and finds room in the lane. */
  #publishWaiting(): void {
    while (this.#published < this.#sent && this.#published - this.#released < this.#laneRecords) {
      this.#publishedMs[this.#published++] = this.#freeMs;
    }
  }

  /** Without a place an answer wakes it. */
  #arm(): void {
    const { timerMs, lateMs } = this.#costs.producer;
    if (!this.#hasPlace) {
      this.#timerAtMs = Infinity;
      return;
    }
    const leftMs = this.#load.arrivalsMs[this.#sent] - this.#freeMs;
    const sleptMs = timerMs === 0 ? leftMs : Math.max(1, Math.floor(leftMs / timerMs)) * timerMs;
    this.#timerAtMs = this.#freeMs + sleptMs + drawn(lateMs, this.#random());
  }
}
