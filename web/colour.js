// Bytes and planes, luma and chroma: BT.601 in studio swing, as in imaging/images.py.

import { newPlanes } from "./resize.js";

const FORWARD = [
  [65.481, 128.553, 24.966],
  [-37.797, -74.203, 112.0],
  [112.0, -93.786, -18.214],
].map((row) => row.map((value) => value / 255));
const OFFSET = [16 / 255, 128 / 255, 128 / 255];
const BACK = inverse(FORWARD);

function inverse([[a, b, c], [d, e, f], [g, h, i]]) {
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / determinant));
}

export function toYcbcr(rgb) {
  return mixed(rgb, FORWARD, [0, 0, 0], OFFSET);
}

export function toRgb(ycbcr) {
  return mixed(ycbcr, BACK, OFFSET, [0, 0, 0]);
}

/** matrix · (planes − before) + after, pixel by pixel. */
function mixed(planes, matrix, before, after) {
  const { height, width, data } = planes;
  const size = height * width;
  const result = newPlanes(3, height, width);
  matrix.forEach(([first, second, third], row) => {
    for (let place = 0; place < size; place++) {
      result.data[row * size + place] =
        first * (data[place] - before[0]) +
        second * (data[size + place] - before[1]) +
        third * (data[2 * size + place] - before[2]) +
        after[row];
    }
  });
  return result;
}

/** RGBA bytes as planes: grey or RGB, and alpha where a pixel is not opaque. */
export function planesOf({ width, height, data }) {
  const size = width * height;
  let grey = true;
  let opaque = true;
  for (let place = 0; place < 4 * size && (grey || opaque); place += 4) {
    grey = grey && data[place] === data[place + 1] && data[place] === data[place + 2];
    opaque = opaque && data[place + 3] === 255;
  }
  const colours = grey ? 1 : 3;
  const planes = newPlanes(colours + !opaque, height, width);
  for (let channel = 0; channel < planes.channels; channel++) {
    const from = channel < colours ? channel : 3;
    for (let place = 0; place < size; place++) planes.data[channel * size + place] = data[4 * place + from] / 255;
  }
  if (!opaque) bleed(planes);
  return { planes, colours, hasAlpha: !opaque };
}

const BLEED = 8;

/** Spread the colours of visible pixels under invisible ones, whose own are left to chance, and would be mixed in. */
function bleed(planes) {
  const { channels, height, width, data } = planes;
  const size = height * width;
  let visible = Uint8Array.from(data.subarray((channels - 1) * size), (alpha) => alpha > 0);
  if (!visible.includes(1)) return;
  for (let round = 0; round < BLEED && visible.includes(0); round++) {
    const before = data.slice(0, (channels - 1) * size);
    const next = visible.slice();
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const place = row * width + column;
        if (visible[place]) continue;
        const around = [];
        for (let y = Math.max(0, row - 1); y <= Math.min(height - 1, row + 1); y++) {
          for (let x = Math.max(0, column - 1); x <= Math.min(width - 1, column + 1); x++) {
            if (visible[y * width + x]) around.push(y * width + x);
          }
        }
        if (!around.length) continue;
        for (let channel = 0; channel < channels - 1; channel++) {
          const sum = around.reduce((total, other) => total + before[channel * size + other], 0);
          data[channel * size + place] = sum / around.length;
        }
        next[place] = 1;
      }
    }
    visible = next;
  }
}
