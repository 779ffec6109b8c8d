// A process of its own with a client: whether it ends by itself. Arguments: address, how many records to append, and whether to wait.

import { connect } from '../../src/client/connect.ts';

const [url, records] = process.argv.slice(2);
const client = await connect(url, { giveUpMs: 10_000 });
for (let i = 0; i < Number(records); i++) {
  void client.append('s', `r${i}`).then(
    ({ offset }) => process.stdout.write(`${offset}\n`),
    (error: Error) => process.stdout.write(`${error.message}\n`),
  );
}
process.stdout.write('idle\n');
