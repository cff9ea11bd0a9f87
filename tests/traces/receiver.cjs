// Starts an OTLP receiver that is not ours, Elastic's, and prints what it read: one JSON line for each
// request, and one for each batch of spans as its own decoder gives it.
//
//     receiver.cjs FOLDER    where npm installed it
'use strict'
const { MockOtlpServer } = require(`${process.argv[2]}/node_modules/@elastic/mockotlpserver`)

const say = line => process.stdout.write(JSON.stringify(line) + '\n')
const server = new MockOtlpServer({
  logLevel: 'fatal',
  services: ['http'],
  httpHostname: '127.0.0.1',
  httpPort: 0,
  onRequest: ({ method, path, headers }) => say({ method, path, fields: headers }),
  onTrace: trace => say({ message: trace.constructor.toObject(trace, { longs: String, enums: String, bytes: String }) }),
})
server.start().then(() => say({ port: Number(server.httpUrl.port) }))
// Who started us ends us by closing this.
process.stdin.on('end', () => process.exit(0)).resume()
