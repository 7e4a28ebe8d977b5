// Pictures as planes of numbers, and MATLAB's bicubic enlargement: what imaging/images.py does, once more.
//
// Planes are {channels, height, width, data}: a Float32Array, one channel after the other, values in 0..1.

export function newPlanes(channels, height, width) {
  return { channels, height, width, data: new Float32Array(channels * height * width) };
}

/** Some of the channels, as a view. */
export function channelsOf(planes, first, count) {
  const size = planes.height * planes.width;
  const data = planes.data.subarray(first * size, (first + count) * size);
  return { channels: count, height: planes.height, width: planes.width, data };
}

/** Where a place lies on a line that is continued by its mirror image: … 1 0 | 0 1 … n-1 | n-1 … */
export function mirroredPlace(place, length) {
  const within = ((place % (2 * length)) + 2 * length) % (2 * length);
  return Math.min(within, 2 * length - 1 - within);
}

function cubic(distance) {
  const x = Math.abs(distance);
  if (x <= 1) return 1.5 * x ** 3 - 2.5 * x ** 2 + 1;
  return x <= 2 ? -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 : 0;
}

const TAPS = 6;

/** Which old pixels make each of `scale * length` new ones: {index, weight}, TAPS of each for every new pixel. */
export function enlargingTaps(length, scale) {
  const index = new Int32Array(TAPS * length * scale);
  const weight = new Float64Array(TAPS * length * scale);
  for (let place = 0; place < length * scale; place++) {
    const centre = (place + 0.5) / scale - 0.5; // both pictures cover the same area
    const first = Math.floor(centre - 2);
    let sum = 0;
    for (let tap = 0; tap < TAPS; tap++) sum += cubic(centre - first - tap);
    for (let tap = 0; tap < TAPS; tap++) {
      index[TAPS * place + tap] = mirroredPlace(first + tap, length);
      weight[TAPS * place + tap] = cubic(centre - first - tap) / sum;
    }
  }
  return { index, weight };
}

/** Rows top..bottom and columns left..right of planes enlarged by these taps, exactly as of the whole. */
export function enlargedWindow(planes, rowTaps, columnTaps, top, bottom, left, right) {
  const { channels, height, width, data } = planes;
  const rows = bottom - top;
  const columns = right - left;
  const used = columnTaps.index.subarray(TAPS * left, TAPS * right);
  const first = used.reduce((least, place) => Math.min(least, place), width);
  const between = used.reduce((most, place) => Math.max(most, place), 0) + 1 - first;
  const result = newPlanes(channels, rows, columns);
  const line = new Float32Array(between);
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      line.fill(0);
      for (let tap = TAPS * (top + row); tap < TAPS * (top + row + 1); tap++) {
        const weight = rowTaps.weight[tap];
        const start = (channel * height + rowTaps.index[tap]) * width + first;
        for (let column = 0; weight && column < between; column++) line[column] += weight * data[start + column];
      }
      const start = (channel * rows + row) * columns;
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (let tap = TAPS * (left + column); tap < TAPS * (left + column + 1); tap++) {
          sum += columnTaps.weight[tap] * line[columnTaps.index[tap] - first];
        }
        result.data[start + column] = sum;
      }
    }
  }
  return result;
}

/** Planes `scale` times larger. */
export function enlarged(planes, scale) {
  const { height, width } = planes;
  const taps = [enlargingTaps(height, scale), enlargingTaps(width, scale)];
  return enlargedWindow(planes, ...taps, 0, height * scale, 0, width * scale);
}
