// What a real browser makes of the page: node web/check.mjs ADDRESS STATIC FOLDER  → one line of JSON.
//
// ADDRESS is served by serve.py, STATIC by a host that sets no headers.
// FOLDER holds cases.json, [{network, scale, file}], and the files. Each is given to the page in Chromium, and what it
// saves goes to FOLDER/saved/. Then everything is tried that must be refused, or told. tests/test_web.py compares.

import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [address, host, folder] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const flags = ["--no-sandbox", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream", "--enable-unsafe-swiftshader"];
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const seen = { errors: [], saved: [], told: {}, shots: [] };

async function open(browser, { listen = true, ...options } = {}, prepare = async () => {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const page = await context.newPage();
  if (listen) {
    page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
    page.on("pageerror", (error) => seen.errors.push(error.message));
  }
  await prepare(page, context);
  await page.goto(address);
  await page.waitForFunction(() => document.querySelector("#status").textContent === "Ready." || !document.querySelector("#error").hidden);
  return page;
}

const errorOf = async (page) => {
  await page.waitForSelector("#error:not([hidden])", { timeout: 60_000 });
  return page.textContent("#error");
};

async function choose(page, { network, scale }) {
  await page.selectOption("#network", network);
  await page.selectOption("#factor", String(scale));
}

const done = (page) => page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("Done"), null, { timeout: 240_000 });

async function enlarge(page, one) {
  await page.reload();
  await page.waitForFunction(() => document.querySelector("#status").textContent === "Ready.");
  await choose(page, one);
  await page.setInputFiles("#file", `${folder}/${one.file}`);
  await done(page);
  seen.saved.push(await save(page, one));
}

/** Keep what the page saves for Python; the name that the page gives it. */
async function save(page, { network, scale, file }) {
  const saving = page.waitForEvent("download");
  await page.click("#save");
  const saved = await saving;
  await saved.saveAs(`${folder}/saved/${network}.x${scale}.${file}`);
  return saved.suggestedFilename();
}

async function dropAndPaste(page) {
  const bytes = [...(await readFile(`${folder}/small.png`))];
  for (const kind of ["drop", "paste"]) {
    await page.reload();
    await page.waitForFunction(() => document.querySelector("#status").textContent === "Ready.");
    await page.evaluate(([name, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(content)], "given.png", { type: "image/png" }));
      const event = name === "drop" ? new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }) : new ClipboardEvent(name, { clipboardData: transfer, bubbles: true });
      document.body.dispatchEvent(event);
    }, [kind, bytes]);
    await done(page);
    seen.told[kind] = await page.textContent("#status");
  }
}

/** What axe-core finds wrong: contrast, names, roles, order of headings. */
async function accessible(page, name) {
  await page.evaluate(axe); // not as a script of the page, which its content security policy would refuse
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, nodes } of violations) seen.errors.push(`${name}: ${id}: ${nodes.map((one) => one.html).join(" ")}`);
}

async function shoot(browser, name, options) {
  const page = await open(browser, options);
  await page.click("[data-sample='samples/cat.png']");
  await done(page);
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  seen.shots.push(name);
  await accessible(page, name);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  if (wide) seen.errors.push(`${name}: the page is wider than its window`);
  await page.context().close();
}

async function keyboard(page) {
  await page.reload();
  await page.waitForFunction(() => document.querySelector("#status").textContent === "Ready.");
  const reached = [];
  for (let step = 0; step < 8; step++) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.dataset.sample));
  }
  await page.focus("[data-sample='samples/drawing.png']");
  await page.keyboard.press("Enter");
  await done(page);
  await page.focus("#slider");
  await page.keyboard.press("ArrowRight");
  seen.told.slider = await page.inputValue("#slider");
  seen.told.reached = reached;
  const named = await page.evaluate(() => [...document.querySelectorAll("button, input, select, progress, canvas")].every((one) => one.ariaLabel || one.labels?.length || one.textContent.trim() || one.id === "live-result"));
  seen.told.named = named;
}

/** Which network the page takes by itself, and that it leaves alone what somebody has chosen. */
async function suited(browser) {
  const page = await open(browser);
  for (const file of ["small.png", "photo.jpg", "small.png", "by hand"]) {
    if (file === "by hand") await page.selectOption("#network", "ECBSR");
    await page.setInputFiles("#file", `${folder}/${file === "by hand" ? "photo.jpg" : file}`);
    await done(page);
    seen.told[`network for ${file}`] = await page.inputValue("#network");
  }
  await page.context().close();
}

async function refusals(browser) {
  let page = await open(browser);
  for (const file of ["note.png", "huge.png", "cut.png"]) {
    await page.setInputFiles("#file", `${folder}/${file}`);
    await page.waitForFunction(() => !document.querySelector("#error").hidden);
    seen.told[file] = await errorOf(page);
    await page.reload();
    await page.waitForFunction(() => document.querySelector("#status").textContent === "Ready.");
  }
  await page.context().close();
  page = await open(browser, { listen: false }, (made) => made.route("**/*.onnx", (route) => route.fulfill({ status: 404 })));
  await page.click("[data-sample='samples/cat.png']");
  seen.told["no network"] = await errorOf(page);
  await page.context().close();
  page = await open(browser, { listen: false }, (made) => made.addInitScript(() => delete globalThis.WebAssembly));
  seen.told["no WebAssembly"] = await errorOf(page);
  await page.context().close();
}

async function cancelling(browser) {
  const page = await open(browser);
  await choose(page, { network: "SRVGG", scale: 4 });
  await page.setInputFiles("#file", `${folder}/large.png`);
  await page.waitForFunction(() => document.querySelector("#bar").value > 0, null, { timeout: 120_000 });
  await page.click("#cancel");
  await page.waitForTimeout(1000);
  seen.told.cancelled = await page.textContent("#status");
  seen.told.hidden = await page.isHidden("#progress");
  await page.click("[data-sample='samples/drawing.png']"); // it goes on working
  await done(page);
  await page.context().close();
}

async function camera(browser) {
  let page = await open(browser, { permissions: ["camera"] });
  if (await page.isHidden("#live")) return;
  await page.click("#live");
  await page.waitForFunction(() => /[1-9]\d* frames a second/.test(document.querySelector("#rate").textContent), null, { timeout: 60_000 });
  await page.waitForTimeout(3000);
  seen.told.rate = await page.textContent("#rate");
  seen.told.live = await page.evaluate(() => {
    const [video, canvas] = [document.querySelector("#video"), document.querySelector("#live-result")];
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return [video.videoWidth, canvas.width, canvas.height, new Set(pixels).size];
  });
  await page.screenshot({ path: `${folder}/live.png`, fullPage: true });
  await page.click("#stop");
  await page.context().close();
  page = await open(browser);
  await page.click("#live");
  seen.told["no camera"] = await errorOf(page);
  await page.context().close();
}

/** In the page: a camera is given, and a picture packed, only when the test says so by `release`. */
function hold() {
  const waiting = [];
  const held = () => new Promise((resume) => waiting.push(resume));
  globalThis.release = () => waiting.splice(0).forEach((resume) => resume());
  globalThis.streams = [];
  const give = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const pack = Response.prototype.arrayBuffer;
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    await held();
    globalThis.streams.push(await give(wanted));
    return globalThis.streams.at(-1);
  };
  Response.prototype.arrayBuffer = async function () {
    await held();
    return pack.call(this);
  };
}

/** A camera that is given when something else has been begun must end, and leave that alone. */
async function lateCameras(browser) {
  const page = await open(browser, { permissions: ["camera"] }, (made) => made.addInitScript(hold));
  if (await page.isHidden("#live")) return;
  const given = () => page.evaluate(() => globalThis.release());
  const frames = async () => {
    await page.evaluate(() => (document.querySelector("#rate").textContent = ""));
    await page.waitForFunction(() => /\d frames/.test(document.querySelector("#rate").textContent), null, { timeout: 60_000 });
  };
  /** Whether all streams, of which there are so many, have ended. */
  const ended = async (count) => {
    const tracks = () => page.evaluate(() => globalThis.streams.flatMap((one) => one.getTracks()).map((one) => one.readyState));
    for (let tries = 0; tries < 40; tries++) {
      const states = await tracks();
      if (states.length === count && states.every((state) => state === "ended")) return "ended";
      await page.waitForTimeout(500);
    }
    return "goes on";
  };
  const told = (seen.told["late cameras"] = {});

  await page.click("#live");
  await page.click("#stop");
  await given();
  told.stopped = [await ended(1), await page.textContent("#status"), await page.isHidden("#camera")];

  await page.click("#live");
  await page.click("#live"); // both wait
  await given();
  await frames();
  await page.click("#live"); // one runs
  await given();
  await frames();
  await page.click("#stop");
  told.again = [await ended(4), await page.textContent("#status"), await page.isHidden("#camera")];

  await choose(page, { network: "SRVGG", scale: 4 });
  await page.click("#live");
  await page.setInputFiles("#file", `${folder}/large.png`);
  await page.waitForFunction(() => document.querySelector("#bar").value > 0, null, { timeout: 120_000 });
  await given();
  const finished = await done(page).then(() => "finished", () => "never finished");
  told.picture = [await ended(5), finished, await page.isHidden("#camera")];
  await page.context().close();
}

/** What comes of a picture when the next one has been begun must keep its name, and leave the next one alone. */
async function latePictures(browser) {
  const page = await open(browser, {}, (made) => made.addInitScript(hold));
  await choose(page, { network: "ECBSR", scale: 2 });
  await page.setInputFiles("#file", `${folder}/photo.jpg`);
  await done(page);
  const saving = page.waitForEvent("download");
  await page.click("#save");
  await page.setInputFiles("#file", `${folder}/small.png`);
  await done(page);
  await page.evaluate(() => globalThis.release());
  seen.told["saved late"] = [(await saving).suggestedFilename(), await page.textContent("#status")];

  let sample;
  await page.route("**/cat.png", (route) => (sample = route));
  await Promise.all([page.waitForRequest("**/cat.png"), page.click("[data-sample='samples/cat.png']")]);
  await page.setInputFiles("#file", `${folder}/small.png`);
  await done(page);
  await Promise.all([page.waitForResponse("**/cat.png"), sample.continue()]);
  await page.waitForTimeout(1000);
  seen.told["sample late"] = await page.evaluate(() => document.querySelector("#before").width);
  await page.context().close();
}

/** What could not be fetched once is fetched anew with the next picture. */
async function fetchedAnew(browser) {
  const told = (seen.told["fetched anew"] = {});
  for (const part of ["worker.js", "ort.wasm.min.mjs", "ort-wasm-simd-threaded.wasm", "ecbsr_x2.onnx"]) {
    let missing = true;
    const page = await open(browser, { listen: false }, (made) =>
      made.route(`**/${part}`, (route) => (missing ? route.abort() : route.continue())));
    await choose(page, { network: "ECBSR", scale: 2 });
    await page.setInputFiles("#file", `${folder}/small.png`);
    told[part] = [await errorOf(page)];
    missing = false;
    await page.setInputFiles("#file", `${folder}/small.png`);
    await done(page).catch(() => {});
    told[part].push((await page.textContent("#status")) || (await page.textContent("#error")));
    await page.context().close();
  }
}

/** WebGPU, computed without a GPU: the page does not choose that by itself, and leaves a GPU that fails in the midst. */
async function onGpu() {
  const unsafe = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
  const browser = await chromium.launch({ executablePath, args: [...flags, ...unsafe] });
  const changed = (text, other) => (page) =>
    page.route("**/worker.js", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, body: other((await answer.text()).replace(text, "")) });
    });
  const [accepted, failing] = ["?.info?.isFallbackAdapter ? null : adapter", "const { output } ="];
  const fails = 'if ((await runtime).provider === "webgpu") throw new Error("lost");';
  const ways = {
    "software GPU": async () => {},
    "lost GPU": changed(accepted, (text) => text.replace(failing, `${fails} ${failing}`)),
    "GPU": changed(accepted, (text) => text), // the last: its picture is kept for Python
  };
  const one = { network: "ECBSR", scale: 2, file: "small.png" };
  for (const [name, prepare] of Object.entries(ways)) {
    const page = await open(browser, {}, prepare);
    await choose(page, one);
    await page.setInputFiles("#file", `${folder}/${one.file}`);
    await done(page);
    seen.told[name] = await page.textContent("#runtime");
    await save(page, one);
    await page.context().close();
  }
  await browser.close();
}

/** Where no headers are set the service worker adds them, and the page loads anew. */
async function hosted(browser) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(host);
  await page.waitForFunction(() => self.crossOriginIsolated && document.querySelector("#status").textContent === "Ready.");
  await page.click("[data-sample='samples/drawing.png']");
  await done(page);
  seen.told.hosted = await page.textContent("#runtime");
  await page.context().close();
}

/** The browser itself may hang, where no call has a time limit: then what has been seen is told, and where it was. */
let at = "start";
const limit = setTimeout(() => {
  console.log(JSON.stringify({ ...seen, errors: [...seen.errors, `after ten minutes still at: ${at}`] }));
  process.exit(1);
}, 600_000);
const browser = await chromium.launch({ executablePath, args: flags });
try {
  await mkdir(`${folder}/saved`, { recursive: true });
  const page = await open(browser);
  at = "pictures";
  for (const one of JSON.parse(await readFile(`${folder}/cases.json`))) await enlarge(page, one);
  seen.told.runtime = await page.textContent("#runtime");
  at = "drop, paste, keyboard";
  await dropAndPaste(page);
  await keyboard(page);
  await page.context().close();
  at = "the network that suits";
  await suited(browser);
  at = "cancelling, refusals";
  await cancelling(browser);
  await refusals(browser);
  at = "camera";
  await camera(browser);
  at = "what comes late";
  await lateCameras(browser);
  await latePictures(browser);
  at = "what could not be fetched";
  await fetchedAnew(browser);
  at = "WebGPU";
  await onGpu();
  at = "a host without headers";
  await hosted(browser);
  at = "screenshots";
  await shoot(browser, "wide", { viewport: { width: 1200, height: 900 } });
  await shoot(browser, "phone", { viewport: { width: 360, height: 740 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true });
  await shoot(browser, "dark", { viewport: { width: 1000, height: 800 }, colorScheme: "dark" });
} catch (error) {
  seen.errors.push(String(error.stack ?? error));
}
clearTimeout(limit);
console.log(JSON.stringify(seen));
await Promise.race([browser.close(), new Promise((resolve) => setTimeout(resolve, 15_000))]);
process.exit();
