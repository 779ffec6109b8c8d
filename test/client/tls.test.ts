// tcps: and https: with certificates made for the test.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from '../../src/client/connect.ts';
import { directory } from '../support/log-support.ts';
import { FakeGateway } from '../support/client-gateway.ts';
import { FakeHttp } from '../support/client-http.ts';

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const skip = hasOpenssl() ? false : 'there is no openssl to make certificates with';

/** A self-signed certificate for 127.0.0.1. */
function certificate(dir: string, name: string): { cert: string; key: string } {
  const key = join(dir, `${name}.key`);
  const cert = join(dir, `${name}.pem`);
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert];
  const named = ['-days', '2', '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...made, ...named], { stdio: 'ignore' });
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
}

t.test('tcps and https, with and without client certificates', { skip }, async (t) => {
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
