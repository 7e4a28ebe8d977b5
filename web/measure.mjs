// How long the page takes: node web/measure.mjs ADDRESS NETWORK SCALE FILE. For every line that it reads it gives FILE
// to the page in Chromium, and prints a line when the result is on the screen. tools/page_speed.py measures by it.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [address, network, scale, file] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage();
const said = (word) => page.waitForFunction((start) => document.querySelector("#status").textContent.startsWith(start), word, { timeout: 240_000 });

await page.goto(address);
await said("Ready.");
await page.selectOption("#network", network);
await page.selectOption("#factor", scale);
console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) {
  await page.evaluate(() => (document.querySelector("#status").textContent = ""));
  await page.setInputFiles("#file", file);
  await said("Done");
  console.log(await page.textContent("#runtime"));
}
await browser.close();
