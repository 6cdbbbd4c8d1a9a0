// Sends an image and shows its result. A new action cancels the one in progress.

import { ask, Problem } from "./api.js";
import { onImages } from "./inputs.js";
import { addMetadata, forgetMetadata, offerMetadata, onMetadata } from "./known.js";
import { addResult, wireList } from "./list.js";
import { readable, wireStrength } from "./pictures.js";
import { resultCard, showExplanation, showModel, showResult } from "./result.js";
import { hideTrouble, showTrouble } from "./trouble.js";

const get = (id) => document.getElementById(id);
let model = null; // the facts of GET /model
let chosen = null; // the last file that the visitor gave
let shown = null; // the file whose result is shown
let running = new AbortController();
let prefix = () => ""; // what comes before each status
const IMAGE_PROBLEMS = [413, 415, 422]; // statuses that concern only the image

const FAILED = new Problem({
  title: "This page failed",
  detail: "Reload it, and tell the operator of this service.",
});

async function loadModel(signal) {
  model = await ask("model", { signal });
  showModel(model);
  offerMetadata(model.metadata);
}

/** Classify `file`, with the facts that the visitor entered. `code` is the class to explain, or empty. */
function predict(file, code, signal) {
  const body = bodyOf(file);
  addMetadata(body);
  return send(`predict?gradcam=true${code && `&gradcam_class=${encodeURIComponent(code)}`}`, body, signal);
}

function bodyOf(file) {
  const body = new FormData();
  body.append("file", file, "image"); // file names may hold patients' names
  return body;
}

/** Resolve to the result. Also load the facts of the model, if another one gave it. */
async function send(path, body, signal) {
  say("Sending the image …");
  const answer = await ask(path, {
    body,
    signal,
    onSent: (share) => {
      get("progress").value = share;
      if (share === 1) {
        say("The model is working …");
        get("progress").removeAttribute("value");
      }
    },
  });
  const { name, version } = answer.model;
  if (model?.name !== name || model.version !== version) await loadModel(signal);
  return answer;
}

function classify(file, { focus = true, collect = get("keep").checked } = {}) {
  hideResults(); // so that the old result is not taken for one of the new image
  chosen = file;
  attempt(async (signal) => {
    const answer = await predict(file, "", signal);
    const bitmap = await readable(file);
    const small = collect ? await readable(file) : null;
    signal.throwIfAborted();
    shown = file;
    showResult(answer, nameOf(file), bitmap, model);
    document.body.classList.add("answered");
    if (collect) addResult(file, small, { answer }, open);
    if (focus) get("result-title").focus();
  }, file);
}

/** Classify each of `files` without age, sex and site, and show a table. */
function classifyAll(files) {
  hideResults();
  chosen = null;
  const left = [...files]; // where the service fails, another attempt goes on
  attempt(async (signal) => {
    for (let file = left[0]; file; file = left[0]) {
      const outcome = await send("predict", bodyOf(file), signal).then(
        (answer) => ({ answer }),
        (problem) => {
          if (!IMAGE_PROBLEMS.includes(problem.status)) throw problem;
          return { problem };
        },
      );
      const bitmap = await readable(file);
      signal.throwIfAborted();
      addResult(file, bitmap, outcome, open);
      document.body.classList.add("answered");
      left.shift();
    }
    get("list-title").focus();
  }, files[0], () => `Image ${files.length - left.length + 1} of ${files.length}. `);
}

/** Show the whole result for a file in the table. */
function open(file) {
  forgetMetadata();
  classify(file, { collect: false });
}

function compare(entries) {
  attempt(async (signal) => {
    const cards = [];
    for (const { file } of entries) {
      const answer = await send("predict?gradcam=true", bodyOf(file), signal);
      const bitmap = await readable(file);
      cards.push(resultCard(answer, nameOf(file), bitmap, model));
      bitmap?.close();
    }
    signal.throwIfAborted();
    hideResults();
    get("pair").replaceChildren(...cards);
    get("comparison").hidden = false;
    get("comparison-title").focus();
  }, entries[0].file);
}

function hideResults() {
  get("result").hidden = get("comparison").hidden = true;
}

/** Pasted images have no name of their own. */
function nameOf(file) {
  return file.name || "pasted image";
}

function explain(code) {
  attempt(async (signal) => {
    get("stack").setAttribute("aria-busy", "true");
    try {
      showExplanation(await predict(shown, code, signal), model);
    } catch (error) {
      get("class").value = get("class").dataset.shown; // the overlay still shows the previous class
      throw error;
    } finally {
      get("stack").removeAttribute("aria-busy");
    }
  }, shown);
}

/** Run `action(signal)` and show its progress. Show a Problem with a button that repeats the action. */
async function attempt(action, file = null, before = () => "") {
  running.abort();
  const mine = running = new AbortController();
  prefix = before;
  hideTrouble();
  get("progress").value = 0;
  get("work").hidden = !file;
  try {
    await action(mine.signal);
    say("");
  } catch (error) {
    if (mine.signal.aborted) return; // the abort has been reported
    say("");
    showTrouble(error instanceof Problem ? error : FAILED, () => attempt(action, file, before), file);
    if (!(error instanceof Problem)) throw error; // for the console
  } finally {
    if (mine === running) get("work").hidden = true;
  }
}

function say(text) {
  get("status").textContent = text && prefix() + text;
}

get("cancel").addEventListener("click", () => {
  running.abort();
  say("Cancelled.");
  get("file").focus();
});
get("class").addEventListener("change", (event) => explain(event.target.value));
onImages((files) => {
  if (chosen || files.length > 1) forgetMetadata();
  if (files.length > 1) classifyAll(files);
  else classify(files[0]);
}, (why) => {
  prefix = () => "";
  say(why);
  get("status").scrollIntoView({ block: "nearest" });
});
onMetadata(() => {
  if (chosen) classify(chosen, { focus: false, collect: false }); // the visitor is at the fields
});
wireStrength();
wireList(compare);
attempt(loadModel);
