// Shows the original image, and the overlay over the part that the model read.

const get = (id) => document.getElementById(id);
const SIDE = 640; // px, longest side of the drawn original: sharp on screens with two pixels per px
const SMALL = 192; // px, longest side of a small picture
const COARSE = 100; // px; a smaller model input is shown with square pixels

/** Resolve to a bitmap of `file`, or null if the browser cannot read the format, such as TIFF or DICOM. */
export function readable(file) {
  // By default, the browser applies the EXIF orientation and converts to sRGB, as the service does.
  return createImageBitmap(file).catch(() => null);
}

/** Draw `bitmap` as a whole and cropped to the model's `input`, and close it. It may be null. */
export function showOriginal(bitmap, input) {
  get("result").classList.toggle("unseen", !bitmap);
  get("stack").classList.toggle("coarse", Math.max(input.width, input.height) < COARSE);
  get("seen").classList.toggle("grey", input.color === "grey");
  drawSmall(get("subject-picture"), bitmap);
  if (!bitmap) return;
  const cut = centre(bitmap, input);
  paint(get("seen"), bitmap, cut, input.width, input.height);
  // Both pictures have one scale. The overlay is as wide as its part of the original.
  get("pictures").style.setProperty("--columns", `1fr ${cut.width / bitmap.width}fr`);
  get("pictures").style.setProperty("--share", cut.width / bitmap.width);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const whole = { left: 0, top: 0, width: bitmap.width, height: bitmap.height };
  paint(get("original"), bitmap, whole, bitmap.width * scale, bitmap.height * scale);
  const all = bitmap.width - cut.width < 2 && bitmap.height - cut.height < 2;
  if (!all) frame(get("original"), cut, scale);
  get("original-caption").textContent = all
    ? "Your image." : "Your image. The model reads only the part inside the frame.";
  bitmap.close();
}

/** Draw the whole `bitmap` on a small `canvas`, which is hidden if it is null. */
export function drawSmall(canvas, bitmap) {
  canvas.hidden = !bitmap;
  if (!bitmap) return;
  const scale = Math.min(1, SMALL / Math.max(bitmap.width, bitmap.height));
  const whole = { left: 0, top: 0, width: bitmap.width, height: bitmap.height };
  paint(canvas, bitmap, whole, bitmap.width * scale, bitmap.height * scale);
}

/** Show the overlay of a result. `name` is the name of the class. */
export function showOverlay(gradcam, name, note) {
  get("overlay").src = `data:${gradcam.media_type};base64,${gradcam.data}`;
  get("overlay").alt = `The part of the image that the model read, with the evidence for ${name} marked`;
  const unseen = get("result").classList.contains("unseen");
  get("overlay-note").textContent = note
    || (unseen ? "Your browser cannot show this file format. Only the image with the colours is shown." : "");
}

/** Let the slider set the opacity of the overlay. */
export function wireStrength() {
  const slider = get("strength");
  const set = () => {
    get("overlay").style.opacity = slider.value / 100;
    document.documentElement.style.setProperty("--strength", slider.value / 100);
    get("strength-value").textContent = `${slider.value}\u00a0%`;
    slider.setAttribute("aria-valuetext", `${slider.value}\u00a0%`);
  };
  slider.addEventListener("input", set);
  set();
}

/** The largest centred rectangle with the aspect ratio of the model's input, as the service crops it. */
function centre({ width, height }, input) {
  const scale = Math.min(width / input.width, height / input.height);
  const cut = { width: scale * input.width, height: scale * input.height };
  return { left: (width - cut.width) / 2, top: (height - cut.height) / 2, ...cut };
}

function paint(canvas, bitmap, part, width, height) {
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // the service puts transparent images on white
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const { left, top } = part;
  context.drawImage(bitmap, left, top, part.width, part.height, 0, 0, canvas.width, canvas.height);
}

function frame(canvas, cut, scale) {
  const context = canvas.getContext("2d");
  const [left, top, width, height] = [cut.left, cut.top, cut.width, cut.height].map((px) => px * scale);
  context.fillStyle = "rgb(0 0 0 / 55%)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(left, top, width, height);
  context.fill("evenodd");
  context.strokeStyle = "white";
  const line = context.lineWidth = canvas.width / 160;
  context.strokeRect(left + line / 2, top + line / 2, width - line, height - line);
}
