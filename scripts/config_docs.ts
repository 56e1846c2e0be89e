/** Writes docs/config.md from the schema: `node build/dev/scripts/config_docs.js`. A test keeps it current. */
import { realpathSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { alternatives, describe, jsonSchema, type JsonSchema } from '#fornax/config/json_schema.js';

const target = fileURLToPath(new URL('../../../docs/config.md', import.meta.url));

const introduction = `# Config

_Made from \`src/config/schema.ts\` by \`scripts/config_docs.ts\`; edit it there._

A config is a YAML file. Every key has a default; with \`--data DIR\` none is needed at all.

\`\`\`yaml
data:
  path: photos # photos/<class>/<image>, or photos/train/… and photos/val/…
model:
  name: resnet18
train:
  epochs: 30
\`\`\`

- \`fornax train config.yaml\` runs it, \`fornax config validate config.yaml\` only checks it, \`fornax config show config.yaml\` prints it with every default filled in, \`fornax init DIR\` writes one for a folder of images.
- Several files are laid over each other (\`fornax train base.yaml server.yaml\`, or \`--config\` several times): maps are merged key by key, lists and single values replaced. Naming another optimizer, schedule or model drops the settings of the one before (of a model: its \`options\`).
- \`--set train.batch_size=32\` overrides a key with any YAML value (\`--set data.augment.scale='[0.3, 1]'\`) and wins over files; \`--data\`, \`--model\`, \`--epochs\`, \`--name\` and \`--device\` win over \`--set\`.
- Paths are relative to the working directory; \`~/\` is the home folder.
- An unknown key, a value of the wrong kind or a contradiction is an error with file, line, what was expected and the nearest valid key. All of them are listed at once; the exit code is 2.
- \`fornax config schema\` prints the JSON Schema, with which editors complete and check the file: \`# yaml-language-server: $schema=config.schema.json\` in its first line.
- In scripts the same keys are written in camelCase: \`train({ data: { path: 'photos' }, train: { batchSize: 32 } })\`.
`;

function cell(text: string): string {
  return text.replace(/\|/g, '\\|').replace(/\n/g, ' ');
}

function code(value: unknown): string {
  return value === undefined || JSON.stringify(value) === '{}'
    ? ''
    : `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

interface Row {
  key: string;
  schema: JsonSchema;
}

/** Keys whose values are maps with keys of their own. */
function isSection(schema: JsonSchema): boolean {
  return schema.properties !== undefined;
}

function rows(schema: JsonSchema, prefix: string): Row[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, child]) => {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    return isSection(child) ? rows(child, path) : [{ key: path, schema: child }];
  });
}

function tableOf(list: Row[]): string {
  const lines = list.map(({ key, schema }) => {
    const values = describe(alternatives(schema).map((s) => ({ ...s })));
    return `| \`${key}\` | ${cell(values)} | ${cell(code(schema.default))} | ${cell(schema.description ?? '')} |`;
  });
  return ['| key | value | default | meaning |', '| --- | --- | --- | --- |', ...lines].join('\n');
}

/** Whether its `name` tells it from other maps: an optimizer, a schedule, a loss. */
function isNamed(schema: JsonSchema): boolean {
  return schema.properties?.['name']?.const !== undefined;
}

/** Maps that a key takes beside something else (`null`, a single value), or a list of such. */
function nested({ key, schema }: Row): string {
  return alternatives(schema)
    .flatMap((s) =>
      s.items ? alternatives(s.items).map((item) => ({ at: `${key}[…]`, item })) : [{ at: key, item: s }],
    )
    .filter(({ item }) => isSection(item) && !isNamed(item))
    .map(({ at, item }) => {
      const list = rows(item, '');
      return `\n### \`${at}\`\n\n${tableOf(list)}\n${list.map(nested).join('')}`;
    })
    .join('');
}

/** The maps with settings that a key takes beside a mere name: optimizers and schedules. */
function named({ key, schema }: Row): string {
  return alternatives(schema)
    .filter(isNamed)
    .map((s) => {
      const { name, ...settings } = s.properties!;
      const list = Object.entries(settings).map(([setting, child]) => ({ key: setting, schema: child }));
      return `\n### \`${key}: { name: ${String(name!.const)}, … }\`\n\n${tableOf(list)}\n`;
    })
    .join('');
}

function section(key: string, schema: JsonSchema): string {
  const list = isSection(schema) ? rows(schema, key) : mapRows(key, schema);
  const more = list.filter((row) => row.key !== key).map((row) => nested(row) + named(row));
  return `\n## ${key}\n\n${schema.description ?? ''}\n\n${tableOf(list)}\n${more.join('')}`;
}

/** `device`, which takes a map or one value for all. */
function mapRows(key: string, schema: JsonSchema): Row[] {
  const map = alternatives(schema).find(isSection);
  return [
    { key, schema: { ...schema, description: 'One for all phases, or a map with the keys below.' } },
    ...(map ? rows(map, key) : []),
  ];
}

/** docs/config.md as it should be. */
export async function configDocs(): Promise<string> {
  const schema = jsonSchema();
  const { name, ...sections } = schema.properties!;
  const text =
    `${introduction}\n${tableOf([{ key: 'name', schema: name! }])}\n` +
    Object.entries(sections)
      .map(([key, child]) => section(key, child))
      .join('');
  return format(text, { ...(await resolveConfig(target)), parser: 'markdown', proseWrap: 'preserve' });
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  writeFileSync(target, await configDocs());
}
