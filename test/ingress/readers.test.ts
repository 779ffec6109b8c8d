// What readers over HTTP may do to everybody else: nothing. Connections that die with answers queued, readers that never read, polls
// that wait, streams that are not there.

import http from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.ts';
import { READ_LOOK_RECORDS, READ_REST, READ_REST_BEHIND_MS } from '../../src/base/limits.ts';
import { Answers, deliver, Peer } from '../../src/ingress/answers.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { LogView } from '../../src/pipeline/view.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, bytes, figuresOf, post, Raw, recordsOf, untilFigures, type Answer } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Line {
  readonly offset: number;
  readonly payload?: string;
}

function linesOf(answer: Answer): Line[] {
  const lines = answer.text.split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Line);
}

const requestOf = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;

/** Large enough that an answer does not fit what the kernel takes. */
const largeLog = { segmentBytes: '4MiB', laneBytes: '4MiB', maxRecordBytes: '1MiB', window: { maxBytes: '1MiB' } };

/** Looks that any view has taken at its log so far. */
function countLooks(t: Test): () => number {
  const { look } = LogView.prototype;
  let looks = 0;
  LogView.prototype.look = function (...args) {
    looks++;
    return look.apply(this, args);
  };
  t.teardown(() => (LogView.prototype.look = look));
  return () => looks;
}

/** A client that asks and never reads. */
async function deafReader(port: number, request: string): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  await once(socket, 'connect');
  socket.on('error', () => undefined);
  socket.pause();
  socket.write(request);
  return socket;
}

t.test('a connection that dies with answers queued behind another gives back what they hold', async (t) => {
  const g = await Inside.start(t, { ingressBytes: '6MiB', wireBodyBytes: '1MiB', maxBlockMs: 500 });
  for (let i = 0; i < 3; i++) isStored(t, await post(g.port, 'a', 'x'.repeat(1000), bytes), 'a record');
  for (let i = 0; i < 3; i++) {
    const client = await Raw.connect(g.port);
    const poll = requestOf(`${recordsOf('n')}?waitMs=60000`);
    client.write(poll + requestOf(recordsOf('a')).repeat(4));
    await until(() => g.count('connections') === 1, 'it is there');
    await new Promise((resolve) => setTimeout(resolve, 200));
    client.destroy();
    await until(() => g.count('connections') === 0, 'it is gone');
  }
  await untilFigures(g.port, (f) => f.ingressBytes === 0 && f.answerBytes === 0, 'all is given back');
  isStored(t, await post(g.port, 'a', 'y', bytes), 'producers notice nothing');
  await g.isAtRest(t, 'after three such connections');
  await g.end(t);
});

t.test('answers that wait for one before them on the same connection come in their order', async (t) => {
  const g = await Inside.start(t);
  for (const payload of ['one', 'two']) isStored(t, await post(g.port, 'a', payload, bytes), payload);
  const client = await Raw.connect(g.port);
  client.write(requestOf(`${recordsOf('n')}?waitMs=300`) + requestOf(recordsOf('a')).repeat(2));
  t.equal((await client.answer()).text, '', 'the poll first');
  for (let i = 0; i < 2; i++) t.equal(linesOf(await client.answer()).length, 2, `then ${i}`);
  client.destroy();
  await g.end(t);
});

t.test('readers that do not read hold up no producer, and what they hold is bounded', async (t) => {
  const g = await Inside.start(t, { ingressBytes: '6MiB', wireBodyBytes: '1MiB', maxBlockMs: 300 }, largeLog);
  for (let i = 0; i < 8; i++) isStored(t, await post(g.port, 'big', 'z'.repeat(900 * KIB), bytes), `big ${i}`);
  const deaf: Socket[] = [];
  // Of what the kernel takes in between none is held here: so many answers that some are held for certain.
  const many = requestOf(recordsOf('big')).repeat(8);
  for (let i = 0; i < 12; i++) deaf.push(await deafReader(g.port, many));
  const figures = await untilFigures(g.port, (f) => f.answerBytes > 2 * MIB, 'answers are held');
  t.same([figures.paused, figures.ingressBytes], [0, 0], 'producers are not held back');
  t.ok(figures.answerBytes <= 6.1 * MIB, `${figures.answerBytes} bytes of answers`);
  for (let i = 0; i < 5; i++) isStored(t, await post(g.port, 'a', 'y', bytes), `a record meanwhile ${i}`);
  for (const socket of deaf) socket.destroy();
  await untilFigures(g.port, (f) => f.answerBytes === 0, 'all is given back');
  await g.isAtRest(t, 'after the deaf readers');
  await g.end(t);
});

t.test('a reader that does not take its answer in time is cut, and counted; one that does is not', async (t) => {
  const counted: string[] = [];
  const host = { draining: false, parts: { counters: { add: (name: string) => void counted.push(name) } } } as never;
  let held = 0;
  const ends: Promise<void>[] = [];
  const server = http.createServer((_req, res) => {
    const peer = new Peer(res);
    const pieces = Array.from({ length: 400 }, () => Buffer.alloc(64 * KIB, 'x'));
    held = 400;
    ends.push(deliver(host, res, peer, [], pieces, () => held--, 300).finally(() => peer.leave()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  t.equal((await ask(port, { path: '/' })).text.length, 25 * MIB, 'one that reads gets all');
  await ends[0];
  t.same([held, counted], [0, ['requests', 'answers2xx']], 'given back as it was taken');
  const deaf = await deafReader(port, requestOf('/'));
  await until(() => ends.length === 2, 'it has asked');
  await ends[1];
  t.ok(held > 0, 'it did not take all');
  t.same(counted.slice(2), ['requests', 'answers2xx', 'stalled'], 'cut');
  deaf.destroy();
});

t.test('looks take turns: one in each turn of the event loop, first come first served', async (t) => {
  const answers = new Answers(1000, systemClock, () => false);
  const order: string[] = [];
  const looks = ['a', 'b', 'c'].map((name) => answers.look(() => undefined).then(() => order.push(name)));
  for (let i = 1; i <= 3; i++) {
    await new Promise((resolve) => process.nextTick(() => setTimeout(resolve, 0)));
    order.push(String(i));
    if (i === 1) t.ok(order.indexOf('a') === 0, 'the first at once');
    await (looks[i] ?? looks[2]);
  }
  t.same(
    order.filter((o) => /[abc]/.test(o)),
    ['a', 'b', 'c'],
  );
  let turns = 0;
  const count = (): void => void (turns++, setImmediate(count).unref());
  count();
  const startTurn = turns;
  await Promise.all(Array.from({ length: 10 }, () => answers.look(() => undefined)));
  t.ok(turns - startTurn >= 9, `${turns - startTurn} turns of the event loop for ten looks`);
});

t.test('who is being accepted comes before the next look, for READ_REST times as long as the last one', async (t) => {
  for (const turnMs of [0, 1]) {
    let nowMs = 0;
    const answers = new Answers(1000, { monotonicMs: () => nowMs }, () => false);
    await answers.look(() => (nowMs += 2));
    let isTaken = false;
    const next = answers.look(() => (isTaken = true));
    let turns = 0;
    for (; turns < 50 && !isTaken; turns++) {
      answers.newcomer();
      nowMs += turnMs;
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (turnMs === 0) t.equal(isTaken, false, 'not while somebody comes in each turn');
    else t.ok(turns >= 2 * READ_REST && turns <= 2 * READ_REST + 2, `${turns} turns of a millisecond, and no more`);
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
    t.equal(isTaken, true, 'once nobody comes');
    await next;
  }
});

t.test('while records of producers wait, readers have one part in READ_REST + 1 of the time', async (t) => {
  const LOOK_MS = 0.4;
  for (const producersWait of [true, false]) {
    let nowMs = 0;
    const rests: number[] = [];
    const answers = new Answers(1000, { monotonicMs: () => nowMs }, () => producersWait);
    t.intercept(globalThis, 'setTimeout', {
      value: (go: () => void, ms: number) => {
        rests.push(ms);
        return setImmediate(go);
      },
    });
    await Promise.all(Array.from({ length: 30 }, () => answers.look(() => (nowMs += LOOK_MS))));
    const restMs = rests.reduce((sum, ms) => sum + ms, 0);
    t.equal(Math.round(restMs / LOOK_MS), producersWait ? 30 * READ_REST : 0, `producers wait: ${producersWait}`);
  }
  // Between two requests of a producer nothing waits for a moment.
  for (const betweenMs of [READ_REST_BEHIND_MS - 1, READ_REST_BEHIND_MS]) {
    let nowMs = 0;
    let wait = true;
    const rests: number[] = [];
    const answers = new Answers(1000, { monotonicMs: () => nowMs }, () => wait);
    t.intercept(globalThis, 'setTimeout', {
      value: (go: () => void, ms: number) => {
        rests.push(ms);
        return setImmediate(go);
      },
    });
    await answers.look(() => undefined);
    wait = false;
    nowMs += betweenMs - 1;
    await answers.look(() => (nowMs += 1));
    t.equal(rests.length, betweenMs < READ_REST_BEHIND_MS ? 1 : 0, `${betweenMs} ms behind one that waited`);
  }
});

t.test('a page is looked for in several looks: what stands behind the first is in it as well', async (t) => {
  const g = await Inside.start(t, {}, largeLog);
  const lines = Array.from({ length: 9000 }, (_, i) => String(i));
  for (let i = 0; i < 9000; i += 900) {
    isStored(
      t,
      await post(g.port, 'many', lines.slice(i, i + 900).join('\n'), { 'content-type': 'application/x-ndjson' }),
      `${i}`,
    );
  }
  const looks = countLooks(t);
  const page = await ask(g.port, { path: `${recordsOf('many')}?max=10000` });
  t.same(
    linesOf(page).map((l) => l.payload),
    lines,
    'each, once, in order',
  );
  t.equal(looks(), Math.ceil(lines.length / READ_LOOK_RECORDS), 'looks');
  await g.end(t);
});

t.test('a page is bounded as text: control characters take six bytes each', async (t) => {
  const g = await Inside.start(t, {}, largeLog);
  const control = Buffer.alloc(50 * KIB, 1);
  for (let i = 0; i < 20; i++) isStored(t, await post(g.port, 'control', control, bytes), `${i}`);
  const seen: Line[] = [];
  for (let from = 0; from < g.durableOffset;) {
    const page = await ask(g.port, { path: `${recordsOf('control')}?from=${from}` });
    t.equal(page.status, 200, page.text.slice(0, 200));
    t.ok(page.text.length <= MIB && linesOf(page).length >= 2, `a page of ${page.text.length} bytes`);
    seen.push(...linesOf(page));
    from = Number(page.headers['x-next-offset']);
  }
  t.same(
    seen.map((l) => [l.offset, l.payload === control.toString()]),
    Array.from({ length: 20 }, (_, i) => [i, true]),
    'each once',
  );
  // The largest record, at its worst: more than a page, and alone in it.
  const worst = Buffer.alloc(MIB, 2);
  isStored(t, await post(g.port, 'worst', worst, bytes), 'the worst');
  isStored(t, await post(g.port, 'worst', 'next', bytes), 'the next');
  const page = await ask(g.port, { path: recordsOf('worst') });
  t.same([page.status, page.text.length > 6 * MIB], [200, true]);
  t.same(
    linesOf(page).map((l) => l.payload === worst.toString()),
    [true],
  );
  const next = await ask(g.port, { path: `${recordsOf('worst')}?from=${page.headers['x-next-offset']}` });
  t.same(
    linesOf(next).map((l) => l.payload),
    ['next'],
  );
  // Cut between characters, wherever a slice ends.
  const wide = `x${'é😀\u0000"'.repeat(20 * KIB)}`;
  isStored(t, await post(g.port, 'wide', wide, bytes), 'wide');
  const odd = Buffer.concat([Buffer.alloc(100_000, 'a'), Buffer.from([0xff])]);
  isStored(t, await post(g.port, 'odd', odd, bytes), 'odd');
  t.equal(linesOf(await ask(g.port, { path: recordsOf('wide') }))[0].payload, wide, 'characters of many bytes');
  const [line] = linesOf(await ask(g.port, { path: recordsOf('odd') })) as { payloadBase64?: string }[];
  t.ok(Buffer.from(line.payloadBase64!, 'base64').equals(odd), 'base64 of many slices');
  await untilFigures(g.port, (f) => f.answerBytes === 0, 'all is given back');
  await g.end(t);
});

t.test('a poll looks again only when its own stream has moved', async (t) => {
  const looks = countLooks(t);
  const g = await Inside.start(t);
  isStored(t, await post(g.port, 'busy', 'x', bytes), 'a record');
  const polls = Array.from({ length: 5 }, () => ask(g.port, { path: `${recordsOf('idle')}?from=0&waitMs=10000` }));
  await until(() => looks() >= 5, 'all have looked');
  const before = looks();
  // Longer than a second: what they look at then is not the log.
  for (let i = 0; i < 60; i++) {
    isStored(t, await post(g.port, 'busy', `x${i}`, bytes), `busy ${i}`);
    await new Promise((resolve) => setTimeout(resolve, 22));
  }
  t.equal(looks() - before, 0, 'none looked at what is not theirs');
  const { firstOffset } = isStored(t, await post(g.port, 'idle', 'mine', bytes), 'theirs');
  for (const answer of await Promise.all(polls)) {
    t.same(
      linesOf(answer).map((l) => [l.offset, l.payload]),
      [[firstOffset, 'mine']],
    );
  }
  t.ok(looks() - before <= 10, `${looks() - before} looks of 5 polls at one record`);
  // What came meanwhile is not walked through again: the answer says how far it is.
  const poll = ask(g.port, { path: `${recordsOf('idle')}?from=${g.durableOffset}&waitMs=300` });
  await new Promise((resolve) => setTimeout(resolve, 100));
  isStored(t, await post(g.port, 'busy', 'y', bytes), 'another');
  t.equal(Number((await poll).headers['x-next-offset']), g.durableOffset, 'the end as it is now');
  await g.end(t);
});

t.test('nothing is skipped that may have been missed: a mark that is odd proves nothing', async (t) => {
  const shared = new SharedState();
  const opened = { io: 'js', tornBytes: 0, foreign: [], nativeMissing: undefined } as const;
  const view = new LogView({ dir: 'none', segmentBytes: MIB, shared: shared.buffer, opened, lanes: [] });
  const before = view.mark('s');
  t.equal(view.unmovedUntil('s', before), 0, 'nothing has come');
  shared.marks.written(5, [0], ['s']);
  shared.marks.published(5, () => {
    // A look between the first mark and the offset sees no record of the batch, and has the mark of now.
    const seen = view.mark('s');
    shared.setOffset('durable', 5);
    t.equal(view.unmovedUntil('s', seen), undefined, 'while it is published');
    t.equal(view.unmovedUntil('s', before), undefined, 'seen before');
  });
  t.equal(view.unmovedUntil('s', before), undefined, 'it has moved');
  t.equal(view.unmovedUntil('s', view.mark('s')), 5, 'and rests');
});

t.test('with two accept threads, a poll at one is woken by a record from the other', async (t) => {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 22 || (major === 22 && minor < 12)) return t.pass('several accept threads need Node 22.12');
  const g = await Inside.start(t, { acceptThreads: 2 });
  for (let i = 0; i < 6; i++) {
    const poll = ask(g.port, { path: `${recordsOf('s')}?from=${g.durableOffset}&waitMs=10000` });
    await new Promise((resolve) => setTimeout(resolve, 50));
    isStored(t, await post(g.port, 's', `x${i}`, bytes), `${i}`);
    t.equal(linesOf(await poll)[0].payload, `x${i}`);
  }
  await g.end(t);
});

t.test(
  'a page of a stream that is not there walks a bounded part of the log, and a poll goes on by itself',
  async (t) => {
    const dir = temporaryDirectory('spillway-readers-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const log = { segmentBytes: '16MiB', laneBytes: '4MiB', maxRecordBytes: '1MiB', window: { maxBytes: '1MiB' }, dir };
    const first = await Inside.start(t, {}, log);
    for (let i = 0; i < 30; i++) isStored(t, await post(first.port, 'other', 'z'.repeat(900 * KIB), bytes), `${i}`);
    const rare = isStored(t, await post(first.port, 'rare', 'found', bytes), 'rare');
    await first.end(t);

    const looks = countLooks(t);
    const g = await Inside.start(t, {}, log);
    // Once for the walking alone, from a place that nobody has been at; then page by page.
    const deep = await ask(g.port, { path: `${recordsOf('rare')}?from=${rare.firstOffset - 1}&waitMs=10000` });
    t.same([linesOf(deep).map((l) => l.payload), looks() > 1], [['found'], true], `in ${looks()} steps`);
    let from = 0;
    let pages = 0;
    let found: Line[] = [];
    while (found.length === 0 && pages < 50) {
      const page = await ask(g.port, { path: `${recordsOf('rare')}?from=${from}` });
      found = linesOf(page);
      t.ok(Number(page.headers['x-next-offset']) > from, `page ${++pages} goes on: ${page.headers['x-next-offset']}`);
      from = Number(page.headers['x-next-offset']);
    }
    t.same([found.map((l) => l.payload), pages > 2], [['found'], true], `in ${pages} pages`);
    const before = looks();
    const poll = await ask(g.port, { path: `${recordsOf('rare')}?from=0&waitMs=10000` });
    t.same([linesOf(poll).map((l) => l.payload), looks() - before > 2], [['found'], true], 'a poll, by itself');
    isError(
      t,
      await ask(g.port, { path: `${recordsOf('rare')}?from=${g.durableOffset + 1}` }),
      'OFFSET_OUT_OF_RANGE',
      'end',
    );
    await g.end(t);
  },
);

t.test('what is asked wrongly is refused by name, and a refusal says where to go on', async (t) => {
  const g = await Inside.start(t);
  for (let i = 0; i < 10; i++) isStored(t, await post(g.port, 'a', `a${i}`, bytes), `${i}`);
  const get = (query: string): Promise<Answer> => ask(g.port, { path: `${recordsOf('a')}${query}` });
  for (const [query, says] of [
    ['?max=0', /'max': expected a whole number from 1 to 10000, got '?"?0/],
    ['?limit=5', /'limit'/],
    ['?from=0&waitMS=5', /'waitMS'/],
    ['?as=json', /'as'/],
  ] as const) {
    const { message } = isError(t, await get(query), 'BAD_REQUEST', query);
    t.match(message, says, query);
  }
  t.equal(linesOf(await get('?from=0&max=1&waitMs=0')).length, 1, 'all that there are');
  await g.gateway.log.truncateBefore(5);
  const removed = await get('?from=4');
  isError(t, removed, 'OFFSET_OUT_OF_RANGE', 'removed');
  t.equal(removed.headers['x-next-offset'], '5', 'the start');
  const beyond = await get('?from=99');
  isError(t, beyond, 'OFFSET_OUT_OF_RANGE', 'beyond');
  t.equal(beyond.headers['x-next-offset'], '10', 'the end');
  t.equal((await figuresOf(g.port)).answerBytes, 0, 'nothing is held for refusals');
  await g.end(t);
});
