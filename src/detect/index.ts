export { faceAnchors } from './anchors.js';
export { FaceDecoder, type DecodedFaces, type DecodeOptions, type FaceDetection } from './decode.js';
export { detectFaces, FaceDetector, type DetectOptions } from './detect_faces.js';
export { drawFaces } from './draw.js';
export { writeWiderText } from './wider_text.js';
export { predictFaces, type FacePrediction, type PredictFacesOptions } from './predict_faces.js';
