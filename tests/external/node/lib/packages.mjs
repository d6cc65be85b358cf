// The packages under test, from target/ext/node where scripts/lib.sh installs them, and the paths of the project.

import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
export const gatewayBinary = process.env.RINGGATE_DATAPLANE ?? join(target, 'release/ringgate-dataplane');
export const interopServerBinary =
  process.env.RINGGATE_INTEROP_SERVER ?? join(target, 'release/examples/interop_server');
export const cliBinary = process.env.RINGGATE_CLI_BINARY ?? join(target, 'release/ringgate');
export const memberBinary = process.env.RINGGATE_MEMBER ?? join(target, 'release/examples/member');

const installed = createRequire(join(root, 'target/ext/node/'));
export const grpc = installed('@grpc/grpc-js');
export const protoLoader = installed('@grpc/proto-loader');
/** A package that is an ES module. */
export const esModule = (name) => import(pathToFileURL(installed.resolve(name)));
