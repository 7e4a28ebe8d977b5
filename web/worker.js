// Networks at work, away from the page, which stays responsive. Messages in: open, enlarge, frame, cancel.
// Messages out: opened, piece, done, frame, failed.

import { newPlanes } from "./resize.js";
import { enlargedPieces } from "./tiles.js";

const RUNTIME = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
const sessions = new Map(); // by file
let runtime; // {ort, provider, described}, a promise once it is wanted
let wanted = 0; // the number of the job in hand; what has another number is cancelled

/** onnxruntime on the GPU if there is WebGPU, else on the processor, by as many threads as the page may have. */
async function startRuntime(avoidGpu) {
  const adapter = avoidGpu ? null : await gpu();
  const ort = await import(`${RUNTIME}${adapter ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"}`).catch(notStarted);
  const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.wasmPaths = RUNTIME;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const described = adapter ? "WebGPU" : `WebAssembly with SIMD, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
  return { ort, provider: adapter ? "webgpu" : "wasm", described };
}

function notStarted(error) {
  throw new Error(`onnxruntime, which computes the networks, does not start (${error.message}): try again.`);
}

/** A GPU, or nothing: what a browser without one computes in its place is many times as slow as WebAssembly. */
async function gpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter?.info?.isFallbackAdapter ? null : adapter;
}

async function openNetwork(network) {
  if (!sessions.has(network.file)) {
    const answer = await fetch(new URL(network.file, import.meta.url)).catch(() => ({ ok: false }));
    if (!answer.ok) throw new Error(`The network's file ${network.file} is missing on this server.`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    runtime ??= startRuntime(false);
    const open = async () => {
      const { ort, provider } = await runtime;
      return ort.InferenceSession.create(bytes, { executionProviders: [provider] }).catch((error) => {
        if (/no available backend/.test(error.message)) notStarted(error); // a file of its own is to blame
        throw new Error(`The network's file ${network.file} cannot be opened (${error.message}).`);
      });
    };
    const session = await open().catch(async (error) => {
      if (!(await leaveGpu())) throw error;
      return open();
    });
    sessions.set(network.file, session);
  }
  return (await runtime).described;
}

/** After a GPU that does not do what it promised: WebAssembly from here on. Says whether there was one to leave. */
async function leaveGpu() {
  if ((await runtime).provider === "wasm") return false;
  runtime = startRuntime(true);
  sessions.clear();
  return true;
}

/** What a network makes of planes. */
async function compute(network, { channels, height, width, data }) {
  await openNetwork(network);
  const { ort } = await runtime;
  const input = new ort.Tensor("float32", data, [1, channels, height, width]);
  const { output } = await sessions.get(network.file).run({ input });
  const [, made, rows, columns] = output.dims;
  const result = newPlanes(made, rows, columns);
  result.data.set(await output.getData());
  output.dispose();
  return result;
}

/** The same, where a GPU may fail: by lack of memory, or because the system has taken it away. */
const runner = (network) => (planes) =>
  compute(network, planes).catch(async (error) => {
    if (!(await leaveGpu())) throw error;
    return compute(network, planes);
  });

async function enlarge({ job, network, low }) {
  self.postMessage({ kind: "opened", job, described: await openNetwork(network) });
  for await (const piece of enlargedPieces(network, runner(network), low)) {
    await new Promise((resume) => setTimeout(resume)); // so that a message can come in
    if (wanted !== job) return;
    self.postMessage({ kind: "piece", job, ...piece }, [piece.pixels.buffer]);
  }
  self.postMessage({ kind: "done", job, described: (await runtime).described });
}

const SWING = 219 / 255; // of luma, from black to white
const lumaOf = (data, place) =>
  (65.481 * data[place] + 128.553 * data[place + 1] + 24.966 * data[place + 2]) / 255 ** 2 + 16 / 255;

/** A frame of the camera in one piece: enlarged by the browser, and its luma made what the network says. */
async function enlargeFrame({ job, network, low }) {
  const { width, height, data } = low;
  const planes = newPlanes(1, height, width);
  for (let place = 0; place < width * height; place++) planes.data[place] = lumaOf(data, 4 * place);
  const luma = await runner(network)(planes);
  const { described } = await runtime;
  const [small, large] = [new OffscreenCanvas(width, height), new OffscreenCanvas(luma.width, luma.height)];
  small.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  const context = large.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, luma.width, luma.height);
  const pixels = context.getImageData(0, 0, luma.width, luma.height).data;
  for (let place = 0; place < luma.width * luma.height; place++) {
    const more = (255 * (luma.data[place] - lumaOf(pixels, 4 * place))) / SWING;
    for (let channel = 4 * place; channel < 4 * place + 3; channel++) pixels[channel] += more;
  }
  self.postMessage({ kind: "frame", job, width: luma.width, height: luma.height, pixels, described }, [pixels.buffer]);
}

const TASKS = { enlarge, frame: enlargeFrame };

let last = Promise.resolve(); // one after the other: a network computes one thing at a time

self.onmessage = ({ data }) => {
  wanted = data.kind === "cancel" ? 0 : data.job;
  if (data.kind === "cancel") return;
  last = last
    .then(() => wanted === data.job && TASKS[data.kind](data))
    .catch((error) => self.postMessage({ kind: "failed", job: data.job, reason: error.message || String(error) }));
};
