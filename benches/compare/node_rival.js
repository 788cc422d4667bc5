// mailauth, asked over standard input: lines `COUNT ADDRESS FILE`, answered by `SPF DKIM DMARC NANOSECONDS`.
'use strict';
const fs = require('fs'), path = require('path'), readline = require('readline');
let authenticate;
try {
  ({ authenticate } = require(path.resolve('target/node/node_modules/mailauth')));
} catch (error) {
  console.log('npm install --prefix target/node mailauth was not run');
  process.exit();
}
const world = JSON.parse(fs.readFileSync(process.argv[2]));
const resolver = async (name, type) => {
  const text = type === 'TXT' ? world.zone[name.toLowerCase().replace(/\.$/, '')] : undefined;
  if (!text) { const error = new Error('none'); error.code = 'ENOTFOUND'; throw error; }
  return [[text]];
};
const judge = (ip, octets) => authenticate(octets, { ip, helo: world.helo, sender: world.mail_from,
  mta: 'mx.example.net', resolver, disableBimi: true });
(async () => {
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [count, ip, ...file] = line.split(' '), octets = fs.readFileSync(file.join(' '));
    let told;
    const started = process.hrtime.bigint();
    for (let left = Number(count); left > 0; left--) told = await judge(ip, octets);
    const took = process.hrtime.bigint() - started;
    const signature = told.dkim.results[0] && told.dkim.results[0].status.result;
    console.log(told.spf.status.result, signature === 'pass' ? 'pass' : 'fail', told.dmarc.status.result, String(took));
  }
})();
