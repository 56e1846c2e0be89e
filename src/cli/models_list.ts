/** Lists the architectures as a table or as JSON. */
import { toSnake } from '../config/case.js';
import { short } from '../graph/format_summary.js';
import type { Architecture } from '../models/architecture.js';
import { catalogue } from '../models/catalogue.js';
import { originOfWeights, publishedWeights } from '../models/published_weights.js';
import { architectures } from '../models/registry.js';
import type { ListFlags } from './models.js';
import { table } from './terminal.js';

/** Those with the text in their name, task or paper, whatever its case. */
function matching(filter: string): Architecture[] {
  const text = filter.toLowerCase();
  return architectures.filter(({ name, task, paper }) =>
    [name, task, paper].some((field) => field.toLowerCase().includes(text)),
  );
}

function record(architecture: Architecture): unknown {
  const { name, task, paper, defaultResolution, defaultClasses } = architecture;
  const { parameters = null, macs = null } = catalogue[name] ?? {};
  const weights = publishedWeights(name).map(({ name: weightsName, publisher, url, metric }) => ({
    name: weightsName,
    publisher,
    url,
    metric,
  }));
  return { type: 'model', name, task, parameters, macs, defaultResolution, defaultClasses, weights, paper };
}

/** Prints to standard output. Nothing found is no error: the list is empty, and a line on standard error says so. */
export function listModels({ filter = '', json = false }: ListFlags): void {
  const found = matching(filter);
  if (found.length === 0) process.stderr.write(`No architecture matches '${filter}'.\n`);
  if (json) {
    for (const architecture of found) {
      process.stdout.write(JSON.stringify(toSnake(record(architecture))) + '\n');
    }
    return;
  }
  if (found.length === 0) return;
  const rows = found.map(({ name, task, defaultResolution, defaultClasses }) => {
    const cost = catalogue[name];
    return [
      name,
      task,
      cost ? short(cost.parameters) : '–',
      cost ? short(cost.macs) : '–',
      `${defaultResolution}²`,
      String(defaultClasses),
      originOfWeights(name) || '–',
    ];
  });
  const head = ['model', 'task', 'parameters', 'MACs', 'made for', 'classes', 'weights'];
  const models = found.length === 1 ? 'one model' : `${found.length} models`;
  process.stdout.write(
    `${table([head, ...rows], [2, 3, 4, 5])}\n\n${models}. ` +
      '`fornax models show NAME` prints layers and options. Size and number of classes follow the data.\n',
  );
}
