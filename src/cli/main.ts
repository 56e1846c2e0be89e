#!/usr/bin/env node
import module from 'node:module';

// Node 22 keeps compiled scripts, which halves the start-up; Node 20 has no such function.
(module as { enableCompileCache?: () => void }).enableCompileCache?.();

const { runCli } = await import('./program.js');
process.exitCode = await runCli(process.argv.slice(2));
