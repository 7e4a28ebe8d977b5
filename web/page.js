// The page: a picture comes in, is shown as it grows, and can be saved. The networks work in worker.js.

import { startCamera } from "./camera.js";
import { decode } from "./decode.js";
import { encodePng } from "./png.js";

const byId = (id) => document.getElementById(id);
const [status, error, progress, result] = ["status", "error", "progress", "result"].map(byId);

let networks = [];
let worker;
let job = 0; // the number of the last one; what another one sends comes too late
let source = null; // {file, name}
let byHand = false; // whether somebody has chosen the network
let picture = null; // the enlarged one: {width, height, data, name}
let camera = null;

// ---------------------------------------------------------------------------------------------
// The job in hand, and the worker that does it
// ---------------------------------------------------------------------------------------------

/** The worker: after a failure a new one, for within a worker what could not be fetched once stays missing. */
function atWork() {
  if (worker) return worker;
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = onMessage;
  worker.onerror = ({ message }) => dismiss(`The networks do not start here: ${message ?? "their program is missing"}.`);
  return worker;
}

/** The job has failed, and the worker goes with what it remembers. */
function dismiss(reason) {
  begin();
  worker?.terminate();
  worker = null;
  fail(reason);
}

/** The number of a new job. What was in hand ends, and what was asked for and has not come yet comes too late. */
function begin() {
  camera?.stop();
  camera = null;
  byId("camera").hidden = true;
  worker?.postMessage({ kind: "cancel" });
  progress.hidden = true;
  return ++job;
}

// ---------------------------------------------------------------------------------------------
// What is told
// ---------------------------------------------------------------------------------------------

function fail(reason) {
  error.textContent = reason;
  error.hidden = false;
  status.textContent = "";
  progress.hidden = true;
}

function tell(text) {
  error.hidden = true;
  status.textContent = text;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} seconds`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

// ---------------------------------------------------------------------------------------------
// Networks
// ---------------------------------------------------------------------------------------------

const names = () => [...new Set(networks.map(({ name }) => name))];
const chosenNetwork = () =>
  networks.find(({ name, scale }) => name === byId("network").value && String(scale) === byId("factor").value);

function showFactors() {
  const before = byId("factor").value;
  const scales = networks.filter(({ name }) => name === byId("network").value).map(({ scale }) => String(scale));
  byId("factor").replaceChildren(...scales.map((scale) => new Option(`×${scale}`, scale)));
  byId("factor").value = scales.includes(before) ? before : scales.at(-1);
  showAbout();
}

function showAbout() {
  byId("about").textContent = chosenNetwork()?.about ?? "";
}

/** The network that suits a file, as long as nobody has chosen one: lossy formats leave traces, which one of them knows. */
function chooseFor(file) {
  const kind = /jpe?g|webp|avif|heic|heif/.test(file.type) ? "lossy" : "lossless";
  const network = networks.find(({ suits }) => suits === kind);
  if (byHand || !network) return;
  byId("network").value = network.name;
  showFactors();
}

async function loadNetworks() {
  const answer = await fetch("networks/networks.json").catch(() => ({ ok: false }));
  if (!answer.ok) throw new Error("The list networks/networks.json is missing on this server.");
  networks = await answer.json();
  byId("network").replaceChildren(...names().map((name) => new Option(name)));
  showFactors();
  byId("live").hidden = !liveNetwork();
}

const liveNetwork = () => networks.find(({ live }) => live);

// ---------------------------------------------------------------------------------------------
// One picture
// ---------------------------------------------------------------------------------------------

async function take(file) {
  if (!file) return;
  source = file;
  chooseFor(file);
  await enlarge();
}

async function enlarge() {
  if (!source) return;
  const number = begin();
  const network = chosenNetwork();
  tell("Reading the picture …");
  try {
    const low = await decode(source, network.scale);
    if (number !== job) return;
    show(low, network);
    progress.hidden = false;
    byId("bar").value = 0;
    byId("left").textContent = "";
    tell("Loading the network …");
    picture.started = performance.now();
    picture.share = 0;
    atWork().postMessage({ kind: "enlarge", job: number, network, low });
  } catch (reason) {
    if (number === job) fail(reason.message);
  }
}

/** Both canvases: before as it is, after with what bicubic interpolation of the browser makes until the pieces come. */
function show(low, network) {
  const [before, after] = [byId("before"), byId("after")];
  [before.width, before.height] = [low.width, low.height];
  [after.width, after.height] = [network.scale * low.width, network.scale * low.height];
  before.getContext("2d").putImageData(new ImageData(low.data, low.width, low.height), 0, 0);
  after.getContext("2d").drawImage(before, 0, 0, after.width, after.height);
  const base = (source.name || "picture").replace(/\.[^.]*$/, "");
  picture = {
    width: after.width, height: after.height, data: new Uint8ClampedArray(4 * after.width * after.height),
    name: `${base}.x${network.scale}.${network.name.toLowerCase().replaceAll(" ", "-")}.png`, finished: false,
  };
  result.hidden = false;
  byId("save").disabled = true;
  showZoom();
  showSlider();
}

function paste(piece) {
  const { top, left, width, height, pixels, share } = piece;
  for (let row = 0; row < height; row++) {
    const line = pixels.subarray(4 * row * width, 4 * (row + 1) * width);
    picture.data.set(line, 4 * ((top + row) * picture.width + left));
  }
  byId("after").getContext("2d").putImageData(new ImageData(pixels, width, height), left, top);
  picture.share += share;
  byId("bar").value = picture.share;
  const passed = (performance.now() - picture.started) / 1000;
  const remaining = (passed * (1 - picture.share)) / picture.share;
  byId("left").textContent = picture.share < 0.999 && passed > 1 ? `${duration(remaining)} left` : "";
}

function finish() {
  const seconds = (performance.now() - picture.started) / 1000;
  picture.finished = true;
  progress.hidden = true;
  byId("save").disabled = false;
  tell(`Done in ${seconds.toFixed(1)} seconds: ${picture.width} × ${picture.height} pixels.`);
}

async function save() {
  const [saved, number] = [picture, job]; // the next one may be begun while this one is packed
  tell("Packing the picture …");
  try {
    const address = URL.createObjectURL(await encodePng(saved));
    Object.assign(document.createElement("a"), { href: address, download: saved.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    if (number === job) tell(`Saved as ${saved.name}.`);
  } catch (reason) {
    if (number === job) fail(reason.message);
  }
}

// ---------------------------------------------------------------------------------------------
// Before and after
// ---------------------------------------------------------------------------------------------

function showSlider() {
  const share = byId("slider").value;
  byId("before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  byId("line").style.left = `${share}%`;
}

function showZoom() {
  const [zoom, after] = [byId("zoom").value, byId("after")];
  const room = byId("viewer").clientWidth || document.body.clientWidth;
  const width = zoom === "fit" ? Math.min(room, after.width) : (zoom * after.width) / devicePixelRatio;
  after.style.width = `${width}px`;
  after.style.imageRendering = zoom > 1 ? "pixelated" : "auto";
}

function slide(event) {
  if (event.buttons !== 1) return;
  const { left, width } = byId("stage").getBoundingClientRect();
  byId("slider").value = (100 * (event.clientX - left)) / width;
  showSlider();
}

// ---------------------------------------------------------------------------------------------
// The camera
// ---------------------------------------------------------------------------------------------

async function live() {
  const number = begin();
  result.hidden = true;
  byId("camera").hidden = false;
  tell("Asking for the camera …");
  try {
    const places = ["video", "live-result", "rate"].map(byId);
    const started = await startCamera(atWork(), number, liveNetwork(), ...places);
    if (number !== job) return started.stop();
    camera = started;
    tell("The camera is on. Its pictures stay here.");
  } catch (reason) {
    if (number !== job) return;
    begin();
    fail(reason.message);
  }
}

// ---------------------------------------------------------------------------------------------
// What the worker says, and what the hand does
// ---------------------------------------------------------------------------------------------

function onMessage({ data }) {
  if (data.described) byId("runtime").textContent = data.described;
  if (data.job !== job) return;
  if (data.kind === "opened") tell("Enlarging …");
  if (data.kind === "piece") paste(data);
  if (data.kind === "done") finish();
  if (data.kind === "frame") camera?.show(data);
  if (data.kind === "failed") dismiss(data.reason);
}

function listen() {
  byId("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  byId("network").addEventListener("change", () => [(byHand = true), showFactors(), enlarge()]);
  byId("factor").addEventListener("change", () => [showAbout(), enlarge()]);
  byId("cancel").addEventListener("click", () => [begin(), tell("Cancelled.")]);
  byId("save").addEventListener("click", save);
  byId("live").addEventListener("click", live);
  byId("stop").addEventListener("click", () => [begin(), tell("The camera is off.")]);
  byId("slider").addEventListener("input", showSlider);
  byId("zoom").addEventListener("change", showZoom);
  byId("stage").addEventListener("pointerdown", slide);
  byId("stage").addEventListener("pointermove", slide);
  window.addEventListener("resize", showZoom);
  document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", async () => {
      const number = begin();
      const { sample } = button.dataset;
      const content = await fetch(sample).then((answer) => (answer.ok ? answer.blob() : null)).catch(() => null);
      if (number !== job) return;
      if (!content) return fail(`${sample} is missing on this server.`);
      return take(new File([content], sample.split("/").pop()));
    });
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

/** A host that sets no headers: the service worker adds them, from the next visit on, which is now. */
async function isolate() {
  if (self.crossOriginIsolated || !("serviceWorker" in navigator) || sessionStorage.getItem("isolated")) return;
  sessionStorage.setItem("isolated", "tried");
  await navigator.serviceWorker.register("isolation.js");
  await navigator.serviceWorker.ready;
  location.reload();
}

async function start() {
  if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly, which the networks need.");
  await isolate().catch(() => {}); // then by one thread
  atWork();
  await loadNetworks();
  listen();
  tell("Ready.");
}

start().catch((reason) => {
  fail(reason.message);
  for (const control of document.querySelectorAll("button, select, input")) control.disabled = true;
});
