// The configuration of serve as its tests read it: files in a directory of their own, flags and variables.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { addServeFlags, resolveServeConfig, type ServeConfig } from '../../src/cli/config.ts';
import { temporaryDirectory } from './modes.ts';

export const root = temporaryDirectory('spillway-config-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let files = 0;

export function file(text: string | Uint8Array): string {
  const path = join(root, `config-${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

export function resolve(args: readonly string[], variables: Record<string, string> = {}): ServeConfig {
  const command = addServeFlags(new Command('serve').exitOverride().configureOutput({ writeErr: () => undefined }));
  command.parse(args, { from: 'user' });
  return resolveServeConfig(command.opts(), variables);
}

export function withFile(text: string | Uint8Array, variables: Record<string, string> = {}): ServeConfig {
  return resolve(['--config', file(text)], variables);
}
