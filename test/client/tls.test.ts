// tcps: and https: with certificates made for the test.

import t from 'tap';
import { connect } from '../../src/client/connect.ts';
import { directory } from '../support/log-support.ts';
import { certificate, skipTls } from '../support/certificates.ts';
import { FakeGateway } from '../support/client-gateway.ts';
import { FakeHttp } from '../support/client-http.ts';

t.test('tcps and https, with and without client certificates', { skip: skipTls }, async (t) => {
  const dir = directory(t);
  const server = certificate(dir, 'server');
  const client = certificate(dir, 'client');
  const mutual = { ...server, ca: client.cert, requestCert: true, rejectUnauthorized: true };
  const quick = { connectTimeoutMs: 300 };
  for (const kind of ['tcps', 'https'] as const) {
    const start = (tls: object): Promise<{ url: string }> =>
      kind === 'tcps' ? FakeGateway.start(t, { tls }) : FakeHttp.start(t, undefined, tls);
    const urlOf = ({ url }: { url: string }): string => url.replace('http:', 'https:');
    const plain = urlOf(await start(server));
    const trusting = await connect(plain, { tls: { ca: server.cert } });
    t.same(await trusting.append('s', 'x'), { offset: 0 }, `${kind}: with the right authority`);
    t.same(
      await trusting.appendMany(
        's',
        Array.from({ length: 3_000 }, () => 'y'.repeat(90)),
      ),
      {
        firstOffset: 1,
        lastOffset: 3_000,
      },
    );
    await trusting.close();
    const careless = await connect(plain, { tls: { rejectUnauthorized: false } });
    t.same(await careless.append('s', 'x'), { offset: 3_001 }, `${kind}: with any certificate`);
    await careless.close();
    await t.rejects(
      connect(plain, quick),
      { code: 'DISCONNECTED', message: /self.signed/ },
      `${kind}: unknown authority`,
    );
    await t.rejects(connect(plain, { ...quick, tls: { ca: client.cert } }), { code: 'DISCONNECTED' });

    const strict = urlOf(await start(mutual));
    const known = await connect(strict, { tls: { ca: server.cert, cert: client.cert, key: Buffer.from(client.key) } });
    t.same(await known.append('s', 'x'), { offset: 0 }, `${kind}: with a client certificate`);
    await known.close();
    await t.rejects(
      connect(strict, { ...quick, tls: { ca: server.cert } }),
      { code: 'DISCONNECTED' },
      `${kind}: without`,
    );
  }
});
