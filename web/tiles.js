// Any picture through any network, in tiles: what engine/upscaling.py does, once more, to the same pixels.
//
// A network is {scale, luma, enlarged, margin}: as in its file of ONNX. `run(planes)` computes it, on luma or RGB.

import { planesOf, toRgb, toYcbcr } from "./colour.js";
import { channelsOf, enlarged, enlargedWindow, enlargingTaps, mirroredPlace, newPlanes } from "./resize.js";

const BORDER = 8; // pixels by which a picture is mirrored beyond its edges
const LEVEL = 9; // pixels a side of the squares of the low picture whose means a network must keep
const SIDE = 128; // pixels a side of a tile of the low picture

/** Yields {top, left, width, height, pixels, share}: RGBA of every piece of the enlarged picture, row by row. */
export async function* enlargedPieces(network, run, low, side = SIDE) {
  const { scale } = network;
  const picture = planesOf(low);
  const taps = [enlargingTaps(low.height, scale), enlargingTaps(low.width, scale)];
  for (let top = 0; top < low.height; top += side) {
    for (let left = 0; left < low.width; left += side) {
      const window = [top, Math.min(low.height, top + side), left, Math.min(low.width, left + side)];
      const [first, bottom, start, right] = window.map((place) => scale * place);
      const piece = await restoredWindow(network, run, picture, taps, first, bottom, start, right);
      const share = (window[1] - top) * (window[3] - left) / (low.height * low.width);
      yield { top: first, left: start, width: right - start, height: bottom - first, pixels: bytesOf(piece), share };
    }
  }
}

async function restoredWindow(network, run, { planes, colours, hasAlpha }, taps, top, bottom, left, right) {
  const { scale } = network;
  let seen, row, column;
  if (network.enlarged) {
    const { margin } = network;
    [row, column] = [Math.max(0, top - margin), Math.max(0, left - margin)];
    const last = [Math.min(scale * planes.height, bottom + margin), Math.min(scale * planes.width, right + margin)];
    seen = enlargedWindow(planes, ...taps, row, last[0], column, last[1]);
  } else {
    // The level is kept over squares that reach farther than the network sees.
    const margin = network.margin + LEVEL;
    const [firstRow, lastRow] = reach(top / scale, bottom / scale, planes.height, margin);
    const [firstColumn, lastColumn] = reach(left / scale, right / scale, planes.width, margin);
    seen = mirroredWindow(planes, firstRow, lastRow, firstColumn, lastColumn);
    [row, column] = [scale * firstRow, scale * firstColumn];
  }
  const cut = (whole) => windowOf(whole, top - row, bottom - row, left - column, right - column);
  const colour = cut(await restored(network, run, channelsOf(seen, 0, colours)));
  if (!hasAlpha) return { colour, alpha: null };
  const range = alphaRange(channelsOf(planes, colours, 1), scale, top, bottom, left, right);
  const alpha = range.even ? range.lowest : cut(await restored(network, run, channelsOf(seen, colours, 1)));
  alpha.data.forEach((value, place) => {
    alpha.data[place] = Math.min(Math.max(value, range.lowest.data[place]), range.highest.data[place]);
  });
  return { colour, alpha };
}

function reach(start, stop, length, margin) {
  return [Math.max(-BORDER, start - margin), Math.min(length + BORDER, stop + margin)];
}

function mirroredWindow(planes, top, bottom, left, right) {
  const result = newPlanes(planes.channels, bottom - top, right - left);
  for (let channel = 0; channel < planes.channels; channel++) {
    for (let row = top; row < bottom; row++) {
      const from = (channel * planes.height + mirroredPlace(row, planes.height)) * planes.width;
      const to = (channel * result.height + row - top) * result.width - left;
      for (let column = left; column < right; column++) {
        result.data[to + column] = planes.data[from + mirroredPlace(column, planes.width)];
      }
    }
  }
  return result;
}

function windowOf(planes, top, bottom, left, right) {
  const result = newPlanes(planes.channels, bottom - top, right - left);
  for (let channel = 0; channel < planes.channels; channel++) {
    for (let row = top; row < bottom; row++) {
      const from = (channel * planes.height + row) * planes.width;
      const to = (channel * result.height + row - top) * result.width;
      result.data.set(planes.data.subarray(from + left, from + right), to);
    }
  }
  return result;
}

/** One plane of grey or alpha, or three of RGB, through a network on luma or RGB, and back; in 0..1. */
async function restored(network, run, seen) {
  const grey = seen.channels === 1;
  let result;
  if (!network.luma) {
    const rgb = grey ? thrice(seen) : seen;
    const level = keepLevel(await run(rgb), rgb, network.scale);
    result = grey ? meanOf(level) : level;
  } else if (grey) {
    const luma = mapped(seen, (value) => (value * 219 + 16) / 255);
    result = mapped(await restoredLuma(network, run, luma), (value) => (value * 255 - 16) / 219);
  } else {
    const ycbcr = toYcbcr(seen);
    const luma = await restoredLuma(network, run, channelsOf(ycbcr, 0, 1));
    const chroma = channelsOf(ycbcr, 1, 2);
    const whole = newPlanes(3, luma.height, luma.width);
    whole.data.set(luma.data);
    whole.data.set((network.enlarged ? chroma : enlarged(chroma, network.scale)).data, luma.data.length);
    result = toRgb(whole);
  }
  return clamped(result);
}

async function restoredLuma(network, run, luma) {
  const result = await run(luma);
  return network.enlarged ? result : keepLevel(result, luma, network.scale);
}

function mapped(planes, change) {
  return { ...planes, data: planes.data.map(change) };
}

function clamped(planes) {
  planes.data.forEach((value, place) => {
    planes.data[place] = Math.min(1, Math.max(0, value));
  });
  return planes;
}

function thrice(plane) {
  const result = newPlanes(3, plane.height, plane.width);
  for (let channel = 0; channel < 3; channel++) result.data.set(plane.data, channel * plane.data.length);
  return result;
}

function meanOf(rgb) {
  const result = newPlanes(1, rgb.height, rgb.width);
  const size = result.data.length;
  for (let place = 0; place < size; place++) {
    result.data[place] = (rgb.data[place] + rgb.data[size + place] + rgb.data[2 * size + place]) / 3;
  }
  return result;
}

/** Enlarged planes moved, smoothly, to the local means of the low ones: back-projection of the mean alone. */
export function keepLevel(planes, low, scale) {
  clamped(planes);
  let difference = newPlanes(low.channels, low.height, low.width);
  for (let channel = 0; channel < low.channels; channel++) {
    for (let row = 0; row < low.height; row++) {
      for (let column = 0; column < low.width; column++) {
        let sum = 0;
        for (let y = scale * row; y < scale * (row + 1); y++) {
          const start = (channel * planes.height + y) * planes.width + scale * column;
          for (let x = start; x < start + scale; x++) sum += planes.data[x];
        }
        const place = (channel * low.height + row) * low.width + column;
        difference.data[place] = low.data[place] - sum / scale ** 2;
      }
    }
  }
  for (let round = 0; round < 2; round++) difference = averaged(averaged(difference, true), false);
  return addEnlarged(planes, difference, scale);
}

/** The mean over LEVEL pixels in a column, or in a row; at the edges of as many as there are. */
function averaged(planes, upright) {
  const { channels, height, width, data } = planes;
  const result = newPlanes(channels, height, width);
  const [length, lines, step, stride] = upright ? [height, width, width, 1] : [width, height, 1, width];
  const half = (LEVEL - 1) / 2;
  for (let channel = 0; channel < channels; channel++) {
    for (let line = 0; line < lines; line++) {
      const start = channel * height * width + line * stride;
      let sum = 0;
      for (let place = 0; place < Math.min(half, length); place++) sum += data[start + place * step];
      for (let place = 0; place < length; place++) {
        if (place + half < length) sum += data[start + (place + half) * step];
        if (place - half > 0) sum -= data[start + (place - half - 1) * step];
        const count = Math.min(length - 1, place + half) - Math.max(0, place - half) + 1;
        result.data[start + place * step] = sum / count;
      }
    }
  }
  return result;
}

/** Planes with a small difference added that is enlarged by bilinear interpolation. */
function addEnlarged(planes, small, scale) {
  const places = (length) => Array.from({ length: length * scale }, (_, place) => {
    const centre = Math.max(0, (place + 0.5) / scale - 0.5);
    const first = Math.floor(centre);
    return [first, Math.min(length - 1, first + 1), centre - first];
  });
  const [rows, columns] = [places(small.height), places(small.width)];
  for (let channel = 0; channel < planes.channels; channel++) {
    rows.forEach(([above, below, down], row) => {
      const first = (channel * small.height + above) * small.width;
      const second = (channel * small.height + below) * small.width;
      const to = (channel * planes.height + row) * planes.width;
      columns.forEach(([left, right, across], column) => {
        const upper = small.data[first + left] * (1 - across) + small.data[first + right] * across;
        const lower = small.data[second + left] * (1 - across) + small.data[second + right] * across;
        planes.data[to + column] += upper * (1 - down) + lower * down;
      });
    });
  }
  return planes;
}

/** The lowest and the highest alpha of the 3×3 low pixels around each new one, which it may not leave. */
function alphaRange(alpha, scale, top, bottom, left, right) {
  const lowest = newPlanes(1, bottom - top, right - left);
  const highest = newPlanes(1, bottom - top, right - left);
  let even = true;
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const [y, x] = [Math.floor(row / scale), Math.floor(column / scale)];
      let [least, most] = [1, 0];
      for (let v = Math.max(0, y - 1); v <= Math.min(alpha.height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(alpha.width - 1, x + 1); u++) {
          const value = alpha.data[v * alpha.width + u];
          [least, most] = [Math.min(least, value), Math.max(most, value)];
        }
      }
      const place = (row - top) * lowest.width + column - left;
      [lowest.data[place], highest.data[place]] = [least, most];
      even = even && least === most;
    }
  }
  return { lowest, highest, even };
}

/** RGBA bytes of restored colour and alpha. */
function bytesOf({ colour, alpha }) {
  const size = colour.height * colour.width;
  const pixels = new Uint8ClampedArray(4 * size);
  for (let place = 0; place < size; place++) {
    for (let channel = 0; channel < 3; channel++) {
      pixels[4 * place + channel] = 255 * colour.data[(colour.channels === 3 ? channel * size : 0) + place];
    }
    pixels[4 * place + 3] = alpha ? 255 * alpha.data[place] : 255;
  }
  return pixels; // such an array rounds by itself
}
