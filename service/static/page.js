// Sends an image and shows its result. A new action cancels the one in progress.

import { ask, Problem } from "./api.js";
import { onImage } from "./inputs.js";
import { addMetadata, forgetMetadata, offerMetadata, onMetadata } from "./known.js";
import { readable, wireStrength } from "./pictures.js";
import { showExplanation, showModel, showResult } from "./result.js";
import { hideTrouble, showTrouble } from "./trouble.js";

const get = (id) => document.getElementById(id);
let model = null; // the facts of GET /model
let chosen = null; // the last file that the visitor gave
let shown = null; // the file whose result is shown
let running = new AbortController();

const FAILED = new Problem({
  title: "This page failed",
  detail: "Reload it, and tell the operator of this service.",
});

async function loadModel(signal) {
  model = await ask("model", { signal });
  showModel(model);
  offerMetadata(model.metadata);
}

/** Classify `file`. Also load the facts of the model, if another one gave the result. */
async function predict(file, code, signal) {
  const body = new FormData();
  body.append("file", file, "image"); // file names may hold patients' names
  addMetadata(body);
  say("Sending the image …");
  const answer = await ask(`predict?gradcam=true${code && `&gradcam_class=${encodeURIComponent(code)}`}`, {
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

function classify(file, { focus = true } = {}) {
  get("result").hidden = true; // so that the old result is not taken for one of the new image
  chosen = file;
  attempt(async (signal) => {
    const answer = await predict(file, "", signal);
    const bitmap = await readable(file);
    signal.throwIfAborted();
    shown = file;
    showResult(answer, bitmap, model);
    if (focus) get("result-title").focus();
  }, file);
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
async function attempt(action, file = null) {
  running.abort();
  const mine = running = new AbortController();
  hideTrouble();
  get("progress").value = 0;
  get("work").hidden = !file;
  try {
    await action(mine.signal);
    say("");
  } catch (error) {
    if (mine.signal.aborted) return; // the abort has been reported
    say("");
    showTrouble(error instanceof Problem ? error : FAILED, () => attempt(action, file), file);
    if (!(error instanceof Problem)) throw error; // for the console
  } finally {
    if (mine === running) get("work").hidden = true;
  }
}

function say(text) {
  get("status").textContent = text;
}

get("cancel").addEventListener("click", () => {
  running.abort();
  say("Cancelled.");
  get("file").focus();
});
get("class").addEventListener("change", (event) => explain(event.target.value));
onImage((file) => {
  if (chosen) forgetMetadata();
  classify(file);
}, (why) => {
  say(why);
  get("status").scrollIntoView({ block: "nearest" });
});
onMetadata(() => {
  if (chosen) classify(chosen, { focus: false }); // the visitor is at the fields
});
wireStrength();
attempt(loadModel);
