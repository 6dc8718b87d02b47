// node-postgres through the gateway. Arguments: host, port, user, password, root certificate, folder of its modules.

const [host, port, user, password, root, modules] = process.argv.slice(2);
const assert = require('node:assert');
const fs = require('node:fs');
const { Client, Pool } = require(`${modules}/pg`);

const options = {
  host, port: Number(port), user, password, database: 'orders', enableChannelBinding: true,
  ssl: { ca: fs.readFileSync(root, 'utf8'), rejectUnauthorized: true },
};

async function main() {
  const client = new Client(options);
  await client.connect();
  const bound = await client.query('SELECT $1::INT AS n, $2::TEXT AS t, $3::BYTEA AS b, $4::JSONB AS j', [
    7, 'seven', Buffer.from([0, 255]), { deep: [1, null] },
  ]);
  assert.deepStrictEqual(bound.rows[0], { n: 7, t: 'seven', b: Buffer.from([0, 255]), j: { deep: [1, null] } });
  await client.query('CREATE TABLE noded (n BIGINT, t TEXT)');
  for (let n = 0; n < 500; n++) {
    await client.query({ name: 'put', text: 'INSERT INTO noded VALUES ($1, $2)', values: [n, `row ${n}`] });
  }
  // Several statements in one message, as scripts send them.
  const several = await client.query('BEGIN; DELETE FROM noded WHERE n < 100; SELECT count(*) FROM noded; COMMIT');
  assert.deepStrictEqual(several.map((one) => one.command), ['BEGIN', 'DELETE', 'SELECT', 'COMMIT']);
  assert.strictEqual(several[2].rows[0].count, '400');
  await assert.rejects(client.query('SELECT 1 / $1::INT', [0]), { code: '22012' });
  await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01' });
  const heard = new Promise((resolve) => client.on('notification', (note) => resolve(note.payload)));
  await client.query('LISTEN bell');
  await client.query("SELECT pg_notify('bell', 'rings')");
  assert.strictEqual(await heard, 'rings');
  const wide = await client.query("SELECT repeat('x', 5000000) AS x");
  assert.strictEqual(wide.rows[0].x.length, 5000000);
  // Sent before the first is answered.
  const ahead = await Promise.all([...Array(50).keys()].map((n) => client.query('SELECT $1::INT + 1 AS n', [n])));
  assert.deepStrictEqual(ahead.map((one) => one.rows[0].n), [...Array(50).keys()].map((n) => n + 1));
  await client.end();

  const pool = new Pool({ ...options, max: 4 });
  const backends = await Promise.all([...Array(40).keys()].map(() => pool.query('SELECT pg_backend_pid() AS pid')));
  assert.ok(new Set(backends.map((one) => one.rows[0].pid)).size > 1, 'a pool has several connections');
  await pool.end();
  console.log('all is well');
}

main().catch((error) => { console.error(error); process.exit(1); });
