// npm's @grpc/grpc-js-xds, unchanged, as a client of xds:///one.shop.svc.cluster.local:80. Commands on stdin, an answer on stdout for each:
//   call [HEADER VALUE]   the backend that answered, or `error ...`
//   backends              the ports of three backends, which answer with their name: a b c
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();
const readline = require('readline');

const text = { serialize: (s) => Buffer.from(s), deserialize: (b) => b.toString() };
const method = {
  path: '/echo.Echo/Echo', requestStream: false, responseStream: false, requestSerialize: text.serialize, requestDeserialize: text.deserialize,
  responseSerialize: text.serialize, responseDeserialize: text.deserialize,
};

function backend(name) {
  return new Promise((resolve, reject) => {
    const server = new grpc.Server();
    server.addService({ Echo: method }, { Echo: (call, callback) => callback(null, name) });
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port)));
  });
}

let client;
function call(header, value) {
  client ??= new grpc.Client('xds:///one.shop.svc.cluster.local:80', grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata({ waitForReady: true });
  if (header) metadata.set(header, value);
  return new Promise((resolve) => {
    client.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, 'hello', metadata, { deadline: Date.now() + 10000 },
      (error, answer) => resolve(error ? `error ${error.code} ${error.details}` : answer));
  });
}

(async () => {
  const ports = [await backend('a'), await backend('b'), await backend('c')];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, header, value] = line.split(' ');
    if (command === 'backends') console.log(ports.join(' '));
    else if (command === 'call') console.log(await call(header, value));
  }
  process.exit(0);
})();
