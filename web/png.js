// PNG, written here: a canvas would change the colours of pixels that are nearly transparent.

const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, number) => {
  for (let bit = 0; bit < 8; bit++) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  return number;
});

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  let sum = 0xffffffff;
  for (let place = 4; place < 8 + content.length; place++) sum = CHECKSUMS[(sum ^ bytes[place]) & 255] ^ (sum >>> 8);
  view.setUint32(8 + content.length, ~sum);
  return bytes;
}

/** Rows of pixels as differences from the row above, which pack well. */
function* filteredRows({ width, height, data }, channels) {
  const bytes = channels * width;
  let above = new Uint8Array(bytes);
  for (let row = 0; row < height; row++) {
    const line = new Uint8Array(bytes);
    for (let column = 0; column < width; column++) {
      for (let channel = 0; channel < channels; channel++) {
        line[channels * column + channel] = data[4 * (row * width + column) + channel];
      }
    }
    const filtered = new Uint8Array(bytes + 1);
    filtered[0] = 2;
    for (let place = 0; place < bytes; place++) filtered[place + 1] = line[place] - above[place];
    above = line;
    yield filtered;
  }
}

/** A Blob of RGBA pixels, without alpha where all are opaque. */
export async function encodePng(picture) {
  const { width, height, data } = picture;
  let opaque = true;
  for (let place = 3; place < data.length && opaque; place += 4) opaque = data[place] === 255;
  const rows = filteredRows(picture, opaque ? 3 : 4);
  const source = new ReadableStream({
    pull(controller) {
      const { done, value } = rows.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  const packed = await new Response(source.pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, opaque ? 2 : 6], 8);
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const contents = { IHDR: header, sRGB: Uint8Array.of(0), IDAT: new Uint8Array(packed), IEND: new Uint8Array(0) };
  const chunks = Object.entries(contents).map(([name, content]) => chunk(name, content));
  return new Blob([signature, ...chunks], { type: "image/png" });
}
