"use strict";

const get = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let model = null; // the facts of GET /model
let chosen = null; // the file being shown
let turn = 0; // answers of an earlier file or class are ignored

function make(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

function say(text, isError = false) {
  get("status").textContent = text;
  get("status").classList.toggle("error", isError);
}

/** Answer of the service as JSON; throws with the words of its problem. */
async function ask(url, options) {
  const response = await fetch(url, options);
  const body = await response.json();
  if (!response.ok) throw new Error(`${body.detail} (request ${body.request_id})`);
  return body;
}

async function classify(file, code = "") {
  const mine = ++turn;
  say("Working …");
  const body = new FormData();
  body.append("file", file);
  try {
    model ??= await ask("model");
    const query = code ? `&gradcam_class=${encodeURIComponent(code)}` : "";
    const answer = await ask(`predict?gradcam=true${query}`, { method: "POST", body });
    if (mine !== turn) return;
    chosen = file;
    show(answer);
    say("");
  } catch (error) {
    if (mine !== turn) return;
    get("result").hidden = true;
    say(error instanceof TypeError ? "The service cannot be reached." : error.message, true);
  }
}

function show(answer) {
  const { flag, probability, threshold } = answer.malignancy;
  get("flag").textContent =
    `Flag: ${flag} — malignancy ${percent(probability)}, threshold ${percent(threshold)}`;
  const names = new Map(model.classes.map((entry) => [entry.code, entry.name]));
  const { coverage, labels } = answer.prediction_set;
  get("set").textContent =
    `Set of classes, meant to hold the true one for ${percent(coverage)} of images: `
    + labels.map((code) => names.get(code)).join(", ");
  get("warnings").replaceChildren(...answer.warnings.map((warning) => make("li", warning.detail)));
  const { entropy, disagreement, ood_score, ood_threshold } = answer.uncertainty;
  get("uncertainty").textContent =
    `Uncertainty: entropy ${entropy.toFixed(2)}, disagreement of the networks ${disagreement.toFixed(2)} (0 to 1); `
    + `unlike the training data ${ood_score.toPrecision(3)}, warned of over ${ood_threshold.toPrecision(3)}`;
  get("overlay").src = `data:${answer.gradcam.media_type};base64,${answer.gradcam.data}`;
  get("overlay").alt = `The image with what spoke for ${answer.gradcam.label} marked`;
  const classes = [...model.classes].sort((a, b) => answer.probabilities[b.code] - answer.probabilities[a.code]);
  get("bars").replaceChildren(...classes.map((entry) => bar(entry, answer)));
  get("class").replaceChildren(...model.classes.map((entry) =>
    new Option(entry.name, entry.code, false, entry.code === answer.gradcam.label)));
  get("model").textContent = `${answer.model.name} ${answer.model.version}`;
  get("result").hidden = false;
}

function bar(entry, answer) {
  const row = make("tr");
  row.classList.toggle("malignant", entry.malignant);
  row.classList.toggle("top", entry.code === answer.prediction.label);
  const name = make("th", `${entry.name} `);
  name.scope = "row";
  if (entry.malignant) name.append(make("span", "malignant", "badge"));
  const meter = make("meter");
  meter.value = answer.probabilities[entry.code];
  meter.setAttribute("aria-label", entry.name);
  const cell = make("td");
  cell.append(meter, make("output", percent(answer.probabilities[entry.code])));
  row.append(name, cell);
  return row;
}

get("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) classify(file);
  event.target.value = ""; // the same file may be chosen again
});
get("class").addEventListener("change", (event) => classify(chosen, event.target.value));
const drop = get("drop");
for (const type of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", type === "dragover");
  });
}
drop.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (file) classify(file);
});
