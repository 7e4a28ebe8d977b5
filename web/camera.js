// The camera through a network, picture by picture. While one is being enlarged those that come are dropped, not queued.

const WIDTH = 320; // pixels of what the network gets

const REFUSALS = {
  NotAllowedError: "The camera was not allowed: allow it in the bar of the address, and try again.",
  NotFoundError: "There is no camera on this machine.",
  NotReadableError: "Another program has the camera.",
};

/** {show, stop}. Throws an Error with a sentence where there is no camera or it may not be used. */
export async function startCamera(worker, job, network, video, canvas, rate) {
  if (!navigator.mediaDevices) throw new Error("This address may not use a camera: it needs https, or localhost.");
  const stream = await navigator.mediaDevices
    .getUserMedia({ video: { width: { ideal: WIDTH }, height: { ideal: (WIDTH * 3) / 4 } } })
    .catch((reason) => {
      throw new Error(REFUSALS[reason.name] ?? `The camera does not start: ${reason.message}.`);
    });
  const end = () => {
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null; // it may show another one by now
  };
  video.srcObject = stream;
  await video.play().catch((reason) => {
    end();
    throw new Error(`The camera does not start: ${reason.message}.`);
  });
  video.width = WIDTH;
  const small = new OffscreenCanvas(WIDTH, Math.round((WIDTH * video.videoHeight) / video.videoWidth));
  const context = small.getContext("2d", { willReadFrequently: true });
  let busy = false;
  let dropped = 0;
  let stopped = false;
  const shown = []; // when, of the last second

  function onFrame() {
    if (stopped) return;
    video.requestVideoFrameCallback(onFrame);
    if (busy) {
      dropped++;
      return;
    }
    busy = true;
    context.drawImage(video, 0, 0, small.width, small.height);
    const { width, height, data } = context.getImageData(0, 0, small.width, small.height);
    worker.postMessage({ kind: "frame", job, network, low: { width, height, data } }, [data.buffer]);
  }

  video.requestVideoFrameCallback(onFrame);
  return {
    show({ width, height, pixels }) {
      busy = false;
      if (stopped) return;
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
      const now = performance.now();
      shown.push(now);
      while (shown[0] < now - 1000) shown.shift();
      rate.textContent = `${shown.length} frames a second, ${dropped} dropped`;
    },
    stop() {
      stopped = true;
      end();
    },
  };
}
