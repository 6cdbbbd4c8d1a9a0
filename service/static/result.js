// Shows the result for an image, and the facts of the model.

import { drawSmall, showOriginal, showOverlay } from "./pictures.js";
import {
  factWords, flagWords, modelWords, percent, pickWords, printWords, setWords, shownWords, usedWords, warningTitle,
} from "./words.js";

const get = (id) => document.getElementById(id);
const NOTHING_MARKED = "empty_heatmap"; // shown at the overlay
const DISAGREE = "flag_label_disagree"; // shown at the flag

/**
 * Show the response `answer` for the file with `name`. `bitmap` is from `readable`, `model` is the response of
 * `GET /model`.
 */
export function showResult(answer, name, bitmap, model) {
  const byCode = new Map(model.classes.map((entry) => [entry.code, entry]));
  const probability = ({ code }) => answer.probabilities[code];
  const sorted = [...model.classes].sort((a, b) => probability(b) - probability(a));
  showWarnings(answer.warnings.filter(({ code }) => ![NOTHING_MARKED, DISAGREE].includes(code)));
  get("used").hidden = !model.metadata;
  get("used").textContent = usedWords(answer.metadata_used);
  showFlag(answer, model);
  get("pick").textContent = pickWords(answer.prediction, sorted[0].code === answer.prediction.label);
  get("bars").replaceChildren(...sorted.map((entry) => bar(entry, answer)));
  const kept = answer.prediction_set.labels;
  const least = Math.min(...kept.map((code) => answer.probabilities[code]));
  const longer = sorted.filter((entry) => probability(entry) > least && !kept.includes(entry.code));
  const { intro, meaning } = setWords(answer.prediction_set, longer.map(({ name }) => name));
  get("set").textContent = intro;
  get("set-list").replaceChildren(
    ...kept.map((code) => named(make("li"), byCode.get(code))),
  );
  get("set-meaning").textContent = meaning;
  get("class").replaceChildren(...sorted.map(({ name, code }) => new Option(name, code)));
  showTerms(get("facts"), factWords(answer, model.provider));
  get("subject-name").textContent = name;
  showTerms(get("printed"), printWords(answer, name, new Date())); // also for the browser's own print command
  showOriginal(bitmap, model.input);
  showExplanation(answer, model);
  get("result").hidden = false;
}

/** Show only the overlay of `answer`. */
export function showExplanation(answer, model) {
  const { label } = answer.gradcam;
  const { name } = model.classes.find(({ code }) => code === label);
  const empty = answer.warnings.find(({ code }) => code === NOTHING_MARKED);
  showOverlay(answer.gradcam, name, empty?.detail);
  get("shown").textContent = shownWords(name, isForTheFlag(answer, model) ? answer.prediction.name : "");
  get("class").value = get("class").dataset.shown = label;
}

/** Show the facts of the model. */
export function showModel(model) {
  get("model").textContent = `Model: ${model.name} ${model.version}`;
  get("intended-use").textContent = model.intended_use;
  get("limits").replaceChildren(...model.limits.map((limit) => make("li", limit)));
  showTerms(get("model-facts"), modelWords(model));
  get("about").hidden = false;
}

function showTerms(list, terms) {
  list.replaceChildren(...terms.flatMap(([term, value]) => [make("dt", term), make("dd", value)]));
}

function showWarnings(warnings) {
  get("warnings").hidden = warnings.length === 0;
  get("warnings-title").textContent = warningTitle(warnings.length);
  get("warning-list").replaceChildren(...warnings.map(({ detail }) => make("li", detail)));
}

/** Whether the overlay explains a malignant class because the image is flagged but its label is benign. */
function isForTheFlag({ gradcam, malignancy, prediction, probabilities }, model) {
  const malignant = model.classes.filter((entry) => entry.malignant).map(({ code }) => code);
  const likeliest = Math.max(...malignant.map((code) => probabilities[code]));
  return malignancy.flag === "malignant" && !malignant.includes(prediction.label)
    && malignant.includes(gradcam.label) && probabilities[gradcam.label] === likeliest;
}

/** A card with the result `answer` for the file with `name`, to stand beside another. */
export function resultCard(answer, name, bitmap, model) {
  const card = make("article", "", "box");
  const picture = document.createElement("canvas");
  drawSmall(picture, bitmap);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", name);
  const overlay = document.createElement("img");
  overlay.src = `data:${answer.gradcam.media_type};base64,${answer.gradcam.data}`;
  const shown = model.classes.find(({ code }) => code === answer.gradcam.label).name;
  overlay.alt = `Evidence for ${shown}`;
  const pictures = make("div", "", "pair-pictures");
  pictures.append(picture, overlay);
  const { title, figures } = flagWords(answer.malignancy, model, pointOf(answer, model));
  card.dataset.flag = answer.malignancy.flag;
  const bars = make("table", "", "bars");
  bars.append(make("caption", "Probability of each class"), make("tbody"));
  const sorted = [...model.classes].sort((a, b) => answer.probabilities[b.code] - answer.probabilities[a.code]);
  bars.lastChild.append(...sorted.map((entry) => bar(entry, answer)));
  const warnings = make("ul");
  warnings.append(...answer.warnings.map(({ detail }) => make("li", detail)));
  card.append(
    make("h3", name), pictures, make("p", `${overlay.alt}.`, "quiet"), make("p", title, "flag-word"),
    make("p", figures), bars, warnings,
    make("p", `${answer.model.name} ${answer.model.version}, request ${answer.request_id}`, "quiet"),
  );
  return card;
}

/** What holds the threshold and metrics that apply to `answer`. */
function pointOf({ metadata_used: used }, model) {
  return used ? model.metadata : model.operating_point;
}

function showFlag(answer, model) {
  const { malignancy, warnings } = answer;
  const { title, figures, meaning, worth } = flagWords(malignancy, model, pointOf(answer, model));
  get("flag-disagree").textContent = warnings.find(({ code }) => code === DISAGREE)?.detail ?? "";
  get("flag").dataset.flag = malignancy.flag;
  get("flag-title").textContent = title;
  get("flag-figures").textContent = figures;
  get("flag-meaning").textContent = meaning;
  get("flag-worth").textContent = worth;
  get("flag-fill").style.width = `${100 * malignancy.probability}%`;
  get("flag-mark").style.left = `${100 * malignancy.threshold}%`;
  get("malignant-names").textContent =
    model.classes.filter((entry) => entry.malignant).map((entry) => entry.name).join(", ");
}

function bar(entry, answer) {
  const row = make("tr");
  row.dataset.code = entry.code;
  row.classList.toggle("malignant", entry.malignant);
  row.classList.toggle("picked", entry.code === answer.prediction.label);
  const name = named(make("th"), entry);
  name.scope = "row";
  const probability = answer.probabilities[entry.code];
  const scale = make("div", "", "scale");
  scale.append(make("span", "", "fill"));
  scale.firstChild.style.width = `${100 * probability}%`;
  const length = make("td");
  length.setAttribute("aria-hidden", "true"); // the next cell has the figure
  length.append(scale);
  row.append(name, length, make("td", percent(probability), "figure"));
  return row;
}

/** Add the name of a class to `node`, with a badge if the class is malignant. */
function named(node, { name, malignant }) {
  node.append(name);
  if (malignant) node.append(" ", make("span", "▲ malignant", "badge"));
  return node;
}

export function make(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}
