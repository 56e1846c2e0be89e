/** One of several processes that train tiny_cnn together: prints its losses and its weights as JSON. */
import { findPlace } from '#fornax/dist/place.js';
import { Processes } from '#fornax/dist/processes.js';
import { stateOf, traceTinyCnn, trainTinyCnn, type DistTraining } from './dist_training.js';

const training = JSON.parse(process.argv[2]!) as DistTraining;
using processes = await Processes.connect(findPlace(), 'cpu');
// Each from weights of its own: those of rank 0 count.
const model = traceTinyCnn(processes.rank);
const losses = await trainTinyCnn(model, { ...training, processes });
process.stdout.write(JSON.stringify({ losses, state: stateOf(model) }));
