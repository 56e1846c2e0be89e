/** The zoo for TypeScript: every architecture is a typed constructor, and options are checked by the name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import { architectures, createModule, models, Model, type OptionsOf } from '#fornax/index.js';

test('`models` holds the constructors of all architectures and nothing else', () => {
  assert.deepEqual(Object.keys(models).sort(), architectures.map(({ name }) => name).sort());
  const shapes = (module: ReturnType<typeof createModule>): unknown =>
    [...module.parameters()].map(({ dims }) => dims);
  for (const { name, create } of architectures) {
    const constructor = models[name as keyof typeof models];
    if (constructor !== create) assert.deepEqual(shapes(constructor()), shapes(create({})), name);
  }
});

test('options are typed by the name of the architecture', () => {
  const options: OptionsOf<'mobilenet_v2'> = { width: 0.5, numClasses: 7 };
  const module = createModule('mobilenet_v2', options);
  assert.deepEqual([...module.parameters()].at(-1)!.dims, [7]);
  // @ts-expect-error -- the compiler knows that there is no such option
  assert.throws(() => createModule('mobilenet_v2', { widht: 0.5 }), ArgumentError);
  // @ts-expect-error -- nor such a value
  assert.throws(() => createModule('mobilenet_v2', { width: 'half' }), ArgumentError);
  // @ts-expect-error -- in Model.create too
  assert.throws(() => Model.create('unet', { options: { levels: 3 } }), ArgumentError);
  // A name that is known only at run time takes anything, and is checked then.
  const name: string = 'unet';
  assert.throws(() => createModule(name, { levels: 3 }), ArgumentError);
  using model = Model.create('unet', {
    numClasses: 2,
    options: { widths: [4, 8] },
    inputs: [[1, 3, 32, 32]],
  });
  using same = Model.create(models.unet({ numClasses: 2, widths: [4, 8] }), { inputs: [[1, 3, 32, 32]] });
  assert.equal(model.parameterCount, same.parameterCount);
});
