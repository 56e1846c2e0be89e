/** Tensors of the native side: copied in and out, made by initialisers, given to single operators. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError, DisposedError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import { tensor, values } from './support/native_graphs.js';

const addon = loadAddon();

describe('tensors', () => {
  it('copy a typed array, whatever happens to it later', () => {
    const data = new Float32Array([1, 2]);
    const made = addon.Tensor.fromTypedArray(data, [2]);
    data[0] = 7;
    assert.deepEqual(values(made), [1, 2]);
    structuredClone(data.buffer, { transfer: [data.buffer] });
    assert.equal(data.length, 0);
    assert.deepEqual(values(made), [1, 2]);

    // ES2024, which Node has and our type library does not.
    const Resizable = ArrayBuffer as unknown as new (
      size: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(size: number): void };
    const resizable = new Resizable(1 << 20, { maxByteLength: 1 << 20 });
    const view = new Float32Array(resizable).fill(3);
    const many = addon.Tensor.fromTypedArray(view, [view.length]);
    resizable.resize(0);
    assert.ok(values(many).every((value) => value === 3));
    const part = addon.Tensor.fromTypedArray(new Float32Array([0, 1, 2, 3]).subarray(1, 3), [2]);
    assert.deepEqual(values(part), [1, 2]);
  });

  it('keep every dtype', () => {
    const long = addon.Tensor.fromTypedArray(new BigInt64Array([1n, -(2n ** 60n)]), [2]);
    assert.deepEqual(Array.from(long.toTypedArray() as BigInt64Array), [1n, -(2n ** 60n)]);
    const half = addon.Tensor.fromTypedArray(new Uint16Array([0x3c00, 0xc000]), [2], { dtype: 'float16' });
    assert.equal(half.dtype, 'float16');
    assert.deepEqual(values(half), [1, -2]);
    const bytes = addon.Tensor.fromTypedArray(new Uint8Array([0, 255]), [2]);
    assert.equal(bytes.dtype, 'uint8');
    assert.deepEqual(values(bytes.to({ dtype: 'float32' })), [0, 255]);
    assert.equal(tensor([3], []).item(), 3);
  });

  it('refuse wrong shapes, detached buffers and use after dispose', () => {
    assert.throws(() => addon.Tensor.fromTypedArray(new Float32Array(3), [2, 2]), ArgumentError);
    assert.throws(() => addon.Tensor.fromTypedArray(new Float32Array(3), [-3]), ArgumentError);
    const data = new Float32Array(4);
    structuredClone(data.buffer, { transfer: [data.buffer] });
    assert.throws(() => addon.Tensor.fromTypedArray(data, [0]), /detached/);
    const gone = tensor([1], [1]);
    gone.dispose();
    gone.dispose();
    assert.equal(gone.disposed, true);
    assert.throws(() => gone.shape, DisposedError);
    assert.throws(() => new (addon.Tensor as unknown as new () => unknown)(), ArgumentError);
  });

  it('call any operator eagerly, lists included', () => {
    const [sum] = addon.Tensor.call('aten::add.Tensor', [tensor([1, 2], [2]), tensor([10, 20], [2])]);
    assert.deepEqual(values(sum), [11, 22]);
    const parts = addon.Tensor.call('aten::chunk', [tensor([1, 2, 3], [3]), 2]);
    assert.deepEqual(parts.map(values), [[1, 2], [3]]);
    const [top, index] = addon.Tensor.call('aten::topk', [tensor([5, 9, 7], [3]), 2]);
    assert.deepEqual(values(top), [9, 7]);
    assert.deepEqual(Array.from(index!.toTypedArray() as BigInt64Array), [1n, 2n]);
    assert.throws(() => addon.Tensor.call('aten::nothing', []), ArgumentError);
  });
});

describe('initialisers', () => {
  const moments = (data: number[]): { mean: number; std: number } => {
    const mean = data.reduce((a, b) => a + b, 0) / data.length;
    return { mean, std: Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length) };
  };
  const draw = (init: Parameters<typeof addon.drawInit>[0], shape: number[], seed = 1) =>
    values(addon.drawInit(init, shape, 'float32', seed));

  it('have the spread of their formula', () => {
    const shape = [64, 32, 3, 3]; // fan_in 288, fan_out 576
    const near = (got: number, expected: number) => {
      assert.ok(Math.abs(got / expected - 1) < 0.02, `${got} is not near ${expected}`);
    };
    near(
      moments(draw({ kind: 'kaiming_normal', mode: 'fan_out', gain: Math.SQRT2 }, shape)).std,
      Math.sqrt(2 / 576),
    );
    near(moments(draw({ kind: 'kaiming_uniform', mode: 'fan_in', gain: 1 }, shape)).std, Math.sqrt(1 / 288));
    near(moments(draw({ kind: 'xavier_normal', gain: 1 }, shape)).std, Math.sqrt(2 / (288 + 576)));
    near(Math.max(...draw({ kind: 'xavier_uniform', gain: 1 }, shape)), Math.sqrt(6 / (288 + 576)));
    const cut = draw({ kind: 'trunc_normal', mean: 0, std: 1, a: -1, b: 1 }, shape);
    assert.ok(cut.every((v) => v >= -1 && v <= 1));
    near(moments(cut).std, 0.5396); // of a standard normal cut at ±1
    assert.ok(draw({ kind: 'constant', value: 0.5 }, [3]).every((v) => v === 0.5));
  });

  it('depend on the seed alone', () => {
    const init = { kind: 'normal', mean: 0, std: 1 } as const;
    assert.deepEqual(draw(init, [100], 5), draw(init, [100], 5));
    assert.notDeepEqual(draw(init, [100], 5), draw(init, [100], 6));
  });
});
