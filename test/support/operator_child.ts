/**
 * Runs random calls of the operators that model files may use, as `node operator_child.js FIRST COUNT`: seeds FIRST
 * to FIRST + COUNT − 1, one operator after another. Notes each call in the file FORNAX_FUZZ_NOTE before it runs, so
 * that the parent can say which one crashed, and prints a tally as JSON.
 */
import { openSync, writeSync } from 'node:fs';
import { FornaxError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import { allowedOperators, operatorCase, type OperatorCase } from './operator_cases.js';

const note = openSync(process.env.FORNAX_FUZZ_NOTE!, 'w');
const [first, count] = process.argv.slice(2).map(Number) as [number, number];
const only = process.env.FORNAX_FUZZ_OPERATOR;
const tally = { refused: 0, failed: 0, ran: 0, faults: [] as string[] };
const reached = new Set<string>();

async function attempt({ graph, inputs, specs, text }: OperatorCase): Promise<'refused' | 'failed' | 'ran'> {
  let state: 'refused' | 'failed' = 'refused';
  const { Graph, InferenceSession } = loadAddon();
  try {
    const native = new Graph(graph, { trusted: false });
    state = 'failed';
    try {
      native.inferShapes(specs);
    } catch (error) {
      if (!(error instanceof FornaxError)) throw error;
    }
    const session = new InferenceSession(native, { threads: 1 });
    try {
      const outputs = await session.forward(inputs, { seed: 1 });
      for (const output of Object.values(outputs)) {
        // Reads every element of what came out, unless it is a small tensor expanded to an absurd size.
        if (output.shape.reduce((product, size) => product * size, 1) < 1e6) output.toTypedArray();
        output.dispose();
      }
      return 'ran';
    } finally {
      session.dispose();
      native.dispose();
    }
  } catch (error) {
    if (!(error instanceof FornaxError)) tally.faults.push(`${text}: ${String(error)}`);
    return state;
  } finally {
    for (const tensor of Object.values(inputs)) tensor.dispose();
  }
}

const schemas = allowedOperators().filter(({ name }) => !only || name === only);
for (let seed = first; seed < first + count; seed++) {
  const schema = schemas[seed % schemas.length]!;
  const drawn = operatorCase(schema, seed);
  // The rest of an earlier, longer note is blanked.
  writeSync(note, drawn.text.slice(0, 3999).padEnd(4000) + '\n', 0);
  const outcome = await attempt(drawn);
  tally[outcome]++;
  if (outcome === 'ran') reached.add(schema.name);
}
process.stdout.write(JSON.stringify({ ...tally, operators: schemas.length, reached: reached.size }));
