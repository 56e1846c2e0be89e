/**
 * Writes src/models/catalogue.ts and docs/models.md from the architectures: `npm run catalogue`. A test keeps both
 * current.
 */
import { realpathSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { toSnake } from '#fornax/config/case.js';
import { short } from '#fornax/graph/format_summary.js';
import { summarizeStateless } from '#fornax/graph/stateless.js';
import { trace } from '#fornax/graph/trace.js';
import type { Architecture, OptionSpec, Task } from '#fornax/models/architecture.js';
import { describeOption } from '#fornax/models/options.js';
import { originOfWeights } from '#fornax/models/published_weights.js';
import { architectures, createModule } from '#fornax/models/registry.js';

const repository = new URL('../../../', import.meta.url);
const catalogueFile = fileURLToPath(new URL('src/models/catalogue.ts', repository));
const pageFile = fileURLToPath(new URL('docs/models.md', repository));

export interface Cost {
  parameters: number;
  macs: number;
}

/** Of one image of the default resolution, with every output, auxiliary ones too. */
export function costOf({ name, defaultResolution }: Architecture): Cost {
  const image = [1, 3, defaultResolution, defaultResolution];
  const graph = trace(createModule(name), { inputs: [image] });
  const { parameters, macs } = summarizeStateless(graph, [image]);
  return { parameters, macs };
}

async function formatted(text: string, file: string): Promise<string> {
  return format(text, { ...(await resolveConfig(file)), filepath: file, proseWrap: 'preserve' });
}

/** src/models/catalogue.ts as it should be. */
export async function catalogueSource(costs: ReadonlyMap<string, Cost>): Promise<string> {
  const digits = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, '_');
  const lines = [...costs].map(
    ([name, { parameters, macs }]) =>
      `${name}: { parameters: ${digits(parameters)}, macs: ${digits(macs)} },`,
  );
  return formatted(
    `/** What computing takes too long for a list. Made by scripts/model_catalogue.ts (\`npm run catalogue\`): do not edit. */
export interface CatalogueEntry {
  /** Trained elements of the model with its default options. */
  parameters: number;
  /** Multiply-accumulates of one image of the default resolution, auxiliary heads included. */
  macs: number;
}

export const catalogue: Readonly<Record<string, CatalogueEntry>> = {
${lines.join('\n')}
};
`,
    catalogueFile,
  );
}

const introduction = `# Models

_Made from \`src/models\` by \`scripts/model_catalogue.ts\`; edit it there._

A config names an architecture in \`model.name\` and its options in \`model.options\`; in scripts it is \`Model.create('resnet50', { numClasses: 10, options: { stem: 'cifar' } })\` with the options in camelCase. \`fornax models\` lists this table, \`fornax models --filter vgg\` a part of it, and \`fornax models show resnet50\` prints layers and options.

\`\`\`yaml
model:
  name: resnet50
  options:
    stem: cifar
    width: 0.5
\`\`\`

- Every model takes any number of classes and any number of input channels; both follow the data.
- Parameters are those of the published model with its number of classes. MACs are multiply-accumulates for one image of the default size, auxiliary heads included (half of what is often called FLOPs).
- State dicts have the names, shapes and order of the origin, so that published weights load as they are: \`model.pretrained\` takes their names ([weights.md](weights.md)).
- Models built from convolutions run at any size from their smallest on; a vision transformer interpolates its position embedding.
`;

const titles: Record<Task, string> = {
  classification: 'Classification',
  segmentation: 'Segmentation',
  detection: 'Detection',
};

function cell(text: string): string {
  return text.replace(/\|/g, '\\|').replace(/\n/g, ' ');
}

function optionTable(options: Readonly<Record<string, OptionSpec>>): string {
  const rows = Object.entries(options).map(([name, spec]) => {
    const key = Object.keys(toSnake({ [name]: null }) as object)[0]!;
    const value = `\`${JSON.stringify(spec.default).replace(/"/g, '')}\``;
    return `| \`${key}\` | ${cell(describeOption(spec))} | ${value} | ${cell(spec.description)} |`;
  });
  if (rows.length === 0) return '';
  return ['\n| option | value | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n') + '\n';
}

/** Neighbours with the same paper and the same options. */
function families(list: readonly Architecture[]): Architecture[][] {
  const groups = new Map<string, Architecture[]>();
  for (const architecture of list) {
    const key = architecture.paper + JSON.stringify(architecture.options);
    groups.set(key, [...(groups.get(key) ?? []), architecture]);
  }
  return [...groups.values()];
}

function familySection(members: readonly Architecture[], costs: ReadonlyMap<string, Cost>): string {
  const rows = members.map(({ name, defaultResolution, defaultClasses }) => {
    const { parameters, macs } = costs.get(name)!;
    return `| \`${name}\` | ${short(parameters)} | ${short(macs)} | ${defaultResolution}² | ${defaultClasses} | ${originOfWeights(name)} |`;
  });
  const head = [
    '| model | parameters | MACs | made for | classes | published weights |',
    '| --- | ---: | ---: | ---: | ---: | --- |',
  ];
  const [{ paper, options }] = members as [Architecture];
  return `\n### ${paper}\n\n${[...head, ...rows].join('\n')}\n${optionTable(options)}`;
}

/** docs/models.md as it should be. */
export async function modelDocs(costs: ReadonlyMap<string, Cost>): Promise<string> {
  const sections = Object.entries(titles).map(([task, title]) => {
    const list = architectures.filter((architecture) => architecture.task === task);
    const parts = families(list).map((members) => familySection(members, costs));
    return list.length === 0 ? '' : `\n## ${title}\n${parts.join('')}`;
  });
  return formatted(introduction + sections.join(''), pageFile);
}

/** Of every architecture, in the order of the registry. */
export function allCosts(): Map<string, Cost> {
  return new Map(architectures.map((architecture) => [architecture.name, costOf(architecture)]));
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const costs = allCosts();
  writeFileSync(catalogueFile, await catalogueSource(costs));
  writeFileSync(pageFile, await modelDocs(costs));
}
