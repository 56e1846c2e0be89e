/** The public API. docs/api.md describes it with examples. */
export { Model } from './model.js';
export type {
  CreateOptions,
  ForwardOptions,
  LossAndGradients,
  PretrainedModelOptions,
  StateEntry,
} from './model/types.js';
export type { DetectionInfo, ModelInfo, Preprocessing } from './model/info.js';
export { Tensor } from './tensor.js';
export type { CallArg, NestedNumbers } from './tensor.js';

export * as nn from './nn/index.js';
export { trace } from './graph/trace.js';
export type { Graph } from './graph/format.js';
export {
  binaryCrossEntropy,
  crossEntropy,
  dice,
  distillation,
  focal,
  jaccard,
  lovasz,
  mse,
  multiBox,
  multiBoxParts,
  smoothL1,
  traceLoss,
  tversky,
} from './losses/index.js';
export * as losses from './losses/index.js';
export { architectures, createModule } from './models/registry.js';
export type { Architecture, ArchitectureName, OptionsOf, OptionSpec, Task } from './models/registry.js';
export * as models from './models/index.js';

export { Trainer, prepareData } from './train/trainer.js';
export type { FitOptions, PrepareDataOptions, TrainerOptions } from './train/trainer.js';
export type { CallbackContext, Callbacks, EpochContext } from './train/callbacks.js';
export type { Metric } from './train/script_metrics.js';
export { findLearningRate } from './train/find_learning_rate.js';
export type { LearningRateOptions, LearningRateResult } from './train/lr_sweep.js';
export type { LearningRateSuggestions, SweepPoint } from './train/lr_suggestion.js';
export type { TracedFunction } from './train/traced.js';
export { memoryData } from './train/memory_data.js';
export type {
  FieldValues,
  FlatValues,
  MemoryData,
  MemoryDataOptions,
  MemorySplit,
  Sample,
  SampleValue,
} from './train/memory_data.js';
export { trainJob } from './train/job.js';
export type { TrainJobOptions, TrainOutcome } from './train/job.js';
export type { ImageTrainData, TrainData } from './train/data.js';
export { eventRecord } from './train/events.js';
export type * from './train/events.js';
export { resolveDevice } from './train/devices.js';

export { evaluateModel } from './eval/evaluate.js';
export type { ClassResult, EvaluateOptions, EvaluationReport } from './eval/evaluate.js';
export { recomputeModel } from './eval/recompute.js';
export type { RecomputeModelOptions } from './eval/recompute.js';
export { evaluateWiderFace } from './eval/wider/evaluate.js';
export type { EvaluateWiderOptions, WiderReport, WiderSettingResult } from './eval/wider/evaluate.js';
export { predict } from './eval/predict.js';
export type { ClassProbability, Prediction, PredictOptions } from './eval/predict.js';

export {
  detectFaces,
  drawFaces,
  FaceDecoder,
  FaceDetector,
  predictFaces,
  writeWiderText,
} from './detect/index.js';
export type {
  DecodedFaces,
  DecodeOptions,
  DetectOptions,
  FaceDetection,
  FacePrediction,
  PredictFacesOptions,
} from './detect/index.js';

export { exportModel } from './export/export_model.js';
export type { ExportOptions, ExportResult } from './export/export_model.js';
export type { ExportFormat } from './export/format.js';

export { defineConfig, loadConfig } from './config/load.js';
export type { Config, ConfigInput } from './config/schema.js';
export { prepareShapes } from './data/shapes.js';
export { readSafetensors, writeSafetensors } from './io/safetensors.js';
export { publishedWeights } from './models/published_weights.js';
export type { PublishedWeights } from './models/published_weights.js';
export { readWeights } from './weights/read_weights.js';
export type { TensorDirectory } from './weights/tensor_directory.js';
export type { LoadWeightsOptions, LoadWeightsReport } from './weights/load.js';
export { loadAddon } from './native.js';

export {
  AbortedError,
  ArgumentError,
  ConfigError,
  DataError,
  DeviceError,
  DisposedError,
  ExecutionError,
  ExportError,
  FornaxError,
  GraphError,
  GuardError,
  InstallError,
  TrainError,
  UsageError,
  WeightsError,
} from './errors.js';
