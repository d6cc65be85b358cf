// gRPC's own test service, served by the example `interop_server` on the gateway's ring, HTTP/2 and gRPC layers.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { clientOptions } from './agent.mjs';
import { grpc, interopServerBinary, protoLoader, root } from './packages.mjs';

const READY = /^interop_server ready on (\S+)$/m;

const definition = protoLoader.loadSync('grpc/testing/test.proto', {
  includeDirs: [join(root, 'proto')],
  keepCase: true,
  defaults: true,
});
export const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;

/** One running `interop_server`. */
export class InteropServer {
  /** Starts it and returns when it is ready. */
  static async start() {
    const server = new InteropServer();
    server.output = '';
    server.process = spawn(interopServerBinary, ['--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'pipe'] });
    await new Promise((resolve, reject) => {
      const hear = (data) => {
        server.output += data;
        server.address = READY.exec(server.output)?.[1];
        if (server.address) resolve();
      };
      server.process.stdout.on('data', hear);
      server.process.stderr.on('data', hear);
      server.process.once('error', reject);
      server.process.once('exit', (code) => reject(new Error(`interop_server ended with ${code}:\n${server.output}`)));
    });
    return server;
  }

  /** A client with a connection of its own. */
  connect(Service = TestService, options = {}) {
    return new Service(this.address, grpc.credentials.createInsecure(), { ...clientOptions, ...options });
  }

  /** Ends it. */
  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) {
      throw new Error(`interop_server ended before its time:\n${this.output}`);
    }
    this.process.kill('SIGKILL');
    await once(this.process, 'exit');
  }
}
