// Files as RGBA pixels, upright as EXIF says, or a sentence that says why not.

export const MOST_PIXELS = 32e6; // of a result: 128 MB, and as much again to show and to save it

const millions = (pixels) => (pixels / 1e6).toLocaleString("en", { maximumFractionDigits: pixels < 1e7 ? 1 : 0 });

/** {width, height, data} of a picture's file. Throws an Error with a sentence. */
export async function decode(file, scale) {
  const { width, height } = await sizeOf(file);
  if (width * height * scale ** 2 > MOST_PIXELS) {
    throw new Error(
      `This picture has ${millions(width * height)} megapixels, and ${scale} times larger it would have ` +
        `${millions(width * height * scale ** 2)}. A browser holds ${millions(MOST_PIXELS)}: take a smaller one, or ` +
        "the program itself, which has no such limit.",
    );
  }
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" }).catch(() => {
    throw new Error(`${file.name || "This file"} is damaged: the browser cannot read it to its end.`);
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  let { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  if (hasAlpha(data)) data = exactPixels(bitmap) ?? data;
  const picture = { width: bitmap.width, height: bitmap.height, data };
  bitmap.close();
  return picture;
}

/** Width and height from the beginning of a file, before all its pixels take up memory. */
async function sizeOf(file) {
  const address = URL.createObjectURL(file);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error(`${file.name || "This file"} is no picture that this browser can read.`));
      image.src = address;
    });
    if (!image.naturalWidth) throw new Error(`${file.name} has no size of its own: save it as PNG first.`);
    return { width: image.naturalWidth, height: image.naturalHeight };
  } finally {
    URL.revokeObjectURL(address);
  }
}

function hasAlpha(data) {
  for (let place = 3; place < data.length; place += 4) if (data[place] < 255) return true;
  return false;
}

/** The pixels by way of a texture: a canvas multiplies colours by alpha, and what is nearly transparent loses them. */
function exactPixels(bitmap) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(bitmap.width, bitmap.height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const data = new Uint8ClampedArray(4 * bitmap.width * bitmap.height);
  gl.readPixels(0, 0, bitmap.width, bitmap.height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(data.buffer));
  return gl.getError() ? null : data;
}
