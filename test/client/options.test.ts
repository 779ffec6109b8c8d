// What `connect` takes, and what it says to the rest.

import t from 'tap';
import { connect } from '../../src/client/connect.ts';
import { resolveClientOptions, type ClientOptionsInput } from '../../src/client/options.ts';

const pem = '-----BEGIN CERTIFICATE-----\n';

t.test('addresses', async (t) => {
  for (const [url, target] of [
    ['tcp://127.0.0.1:8081', { kind: 'tcp', host: '127.0.0.1', port: 8081, tls: undefined }],
    ['tcp://gateway.internal:1/', { kind: 'tcp', host: 'gateway.internal', port: 1, tls: undefined }],
    ['tcp://[::1]:8081', { kind: 'tcp', host: '::1', port: 8081, tls: undefined }],
    ['tcps://h:8081', { kind: 'tcp', host: 'h', port: 8081, tls: { rejectUnauthorized: true } }],
    ['unix:/run/spillway.sock', { kind: 'unix', path: '/run/spillway.sock' }],
    ['unix:///run/spillway.sock', { kind: 'unix', path: '/run/spillway.sock' }],
    ['unix:relative/s', { kind: 'unix', path: 'relative/s' }],
    ['http://h:8080', { kind: 'http', host: 'h', port: 8080, tls: undefined }],
    ['http://h', { kind: 'http', host: 'h', port: 80, tls: undefined }],
    ['https://[::1]/', { kind: 'http', host: '::1', port: 443, tls: { rejectUnauthorized: true } }],
  ] as const) {
    t.same(resolveClientOptions(url, {}).target, target, url);
  }
});

t.test('values and their defaults', async (t) => {
  t.match(resolveClientOptions('tcp://h:1', {}), {
    url: 'tcp://h:1',
    token: undefined,
    maxWaitingBytes: 64 * 1024 * 1024,
    connectTimeoutMs: 10_000,
    giveUpMs: 60_000,
    concurrency: 1,
    codec: 'none',
  });
  t.equal(resolveClientOptions('https://h', { codec: 'gzip' }).codec, 'gzip');
  t.match(
    resolveClientOptions('http://h:1', { maxWaitingBytes: '1MiB', concurrency: 8, token: 'secret', giveUpMs: 5 }),
    {
      token: 'secret',
      maxWaitingBytes: 1024 * 1024,
      giveUpMs: 5,
      concurrency: 8,
    },
  );
  const tls = { ca: [pem, Buffer.from('der')], cert: pem, key: pem, rejectUnauthorized: false };
  t.same(resolveClientOptions('https://h:1', { tls }).target, { kind: 'http', host: 'h', port: 1, tls });
});

t.test('what is refused, with one line that names it', async (t) => {
  for (const [url, options, message] of [
    ['http://h:1', { codec: 'lz4' }, /^option 'codec': expected one of none, gzip, zstd, got 'lz4'$/],
    ['', {}, /^option 'url': expected tcp:\/\/HOST:PORT, .* got ''$/],
    [5, {}, /^option 'url'/],
    ['127.0.0.1:8081', {}, /^option 'url'/],
    ['ftp://h:1', {}, /^option 'url'/],
    ['tcp://h', {}, /^option 'url': expected a port: tcp:\/\/HOST:PORT/],
    ['tcp://h:0', {}, /a port/],
    ['tcp://h:99999', {}, /^option 'url'/],
    ['tcp://:8081', {}, /^option 'url'/],
    ['http://h:1/v1', {}, /nothing behind the port/],
    ['http://h:1/?x', {}, /nothing behind the port/],
    ['http://user:pass@h:1', {}, /option 'token'/],
    ['unix:', {}, /^option 'url'/],
    ['unix://host/path', {}, /^option 'url'/],
    [`unix:/${'x'.repeat(107)}`, {}, /107 bytes/],
    ['tcp://h:1', null, /^connect options: expected an object/],
    ['tcp://h:1', { tokn: 'x' }, /unknown option 'tokn': did you mean 'token'\?/],
    ['tcp://h:1', { maxWaitingBytes: -1 }, /^option 'maxWaitingBytes'/],
    ['tcp://h:1', { maxWaitingBytes: '1 parsec' }, /^option 'maxWaitingBytes'/],
    ['tcp://h:1', { connectTimeoutMs: 0 }, /^option 'connectTimeoutMs'/],
    ['tcp://h:1', { giveUpMs: '60' }, /^option 'giveUpMs'/],
    ['tcp://h:1', { token: '' }, /^option 'token'/],
    ['tcp://h:1', { token: 'with space' }, /^option 'token'/],
    ['tcp://h:1', { token: 'new\nline' }, /^option 'token'/],
    ['tcp://h:1', { token: 'x'.repeat(4097) }, /^option 'token'.* got '4097 others'/],
    ['tcp://h:1', { concurrency: 2 }, /^option 'concurrency': expected 1, as the url is not http/],
    ['http://h:1', { concurrency: 1.5 }, /^option 'concurrency'/],
    ['tcp://h:1', { tls: {} }, /^option 'tls': expected a url that begins with tcps: or https:/],
    ['unix:/s', { tls: {} }, /^option 'tls'/],
    ['tcps://h:1', { tls: { cert: pem } }, /^option 'tls.key': expected both cert and key/],
    ['tcps://h:1', { tls: { key: pem } }, /^option 'tls.cert'/],
    ['tcps://h:1', { tls: { ca: '/etc/ssl/ca.pem' } }, /^option 'tls.ca': expected PEM text/],
    ['tcps://h:1', { tls: { ca: [pem, 5] } }, /^option 'tls.ca'/],
    ['tcps://h:1', { tls: { rejectUnauthorized: 'no' } }, /^option 'tls.rejectUnauthorized'/],
    ['tcps://h:1', { tls: { cert: pem, key: pem, pass: 'x' } }, /unknown option 'pass'/],
  ] as const) {
    const call = connect(url as string, options as ClientOptionsInput);
    await t.rejects(
      call,
      { name: 'SpillwayError', code: 'INVALID_OPTION', message },
      `${url} ${JSON.stringify(options)}`,
    );
  }
});

t.test('a token stays out of messages', async (t) => {
  await t.rejects(connect('tcp://h:1', { token: 'my secret' }), { message: /^(?!.*secret)/ });
});
