// Sends an image and shows its result. A new action cancels the one in progress.

import { ask, Problem } from "./api.js";
import { onImages } from "./inputs.js";
import { forgetMetadata, knownMetadata, offerMetadata, onMetadata, restoreMetadata } from "./known.js";
import { addResult, isListed, wireList } from "./list.js";
import { readable, wireStrength } from "./pictures.js";
import { resultCard, showExplanation, showModel, showResult } from "./result.js";
import { hideTrouble, showTrouble } from "./trouble.js";

const get = (id) => document.getElementById(id);
let model = null; // the facts of GET /model
let chosen = null; // the last file that the visitor gave
let shown = null; // the file whose result is shown
let given = false; // whether the visitor has given an image
let pending = []; // files that wait for their turn
let running = new AbortController();
let prefix = () => ""; // what comes before each status
const BUSY = [429, 503]; // statuses after which the service may be asked again
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

/** Classify `file` with the metadata `known`. `code` is the class to explain, or empty. */
function predict(file, code, known, signal) {
  const body = bodyOf(file);
  for (const [name, value] of known) body.append(name, value);
  return send(`predict?gradcam=true${code && `&gradcam_class=${encodeURIComponent(code)}`}`, body, signal);
}

/** The form to send. Throws a Problem if the service would refuse its size, for which it may cut the connection. */
function bodyOf(file) {
  const most = model?.request_limits?.max_body_bytes ?? Infinity;
  if (file.size > most) {
    throw new Problem({
      title: "Image is too large",
      detail: `The file has ${(file.size / 1e6).toFixed(1)} MB. At most ${(most / 1e6).toFixed(1)} MB are accepted.`,
      status: 413,
    });
  }
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

function classify(file, { focus = true, collect = get("keep").checked || isListed(file) } = {}) {
  giveUp();
  hideResults(); // so that the old result is not taken for one of the new image
  chosen = file;
  attempt(async (signal) => {
    const known = knownMetadata();
    const answer = await predict(file, "", known, signal);
    const bitmap = await readable(file);
    const small = collect ? await readable(file) : null;
    signal.throwIfAborted();
    shown = file;
    showResult(answer, nameOf(file), bitmap, model);
    document.body.classList.add("answered");
    if (collect) addResult(file, small, { answer, known }, open);
    if (focus) get("result-title").focus();
  }, file);
}

/** Classify each of `files` without age, sex and site, and show a table. */
function classifyAll(files) {
  giveUp();
  hideResults();
  chosen = null;
  pending = [...files]; // where the service fails, another attempt goes on
  let lost = null; // the file that the connection was lost with
  attempt(async (signal) => {
    for (let file = pending[0]; file; file = pending[0]) {
      let outcome;
      try {
        outcome = { answer: await send("predict", bodyOf(file), signal) };
      } catch (problem) {
        if (signal.aborted || !(problem instanceof Problem)) throw problem;
        if (problem.retryAfter && BUSY.includes(problem.status)) {
          say(`The service is busy. It is asked again in ${problem.retryAfter} s.`);
          await pause(problem.retryAfter, signal);
          continue;
        }
        if (!IMAGE_PROBLEMS.includes(problem.status) && !(problem.status === 0 && lost === file)) {
          lost = file;
          throw problem;
        }
        outcome = { problem };
      }
      const bitmap = await readable(file);
      signal.throwIfAborted();
      addResult(file, bitmap, outcome, open);
      document.body.classList.add("answered");
      pending.shift();
    }
    get("list-title").focus();
  }, files[0], () => (pending.length ? `Image ${files.length - pending.length + 1} of ${files.length}. ` : ""));
}

/** Show that the rest of the files was not classified: another action takes the place of theirs. */
function giveUp() {
  const problem = new Problem({ title: "Not classified", detail: "Stopped before its turn." });
  for (const file of pending.splice(0)) addResult(file, null, { problem }, open);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

/** Show the whole result for a file in the table. */
function open(file, known) {
  restoreMetadata(known);
  classify(file);
}

function compare(entries) {
  giveUp();
  chosen = null;
  attempt(async (signal) => {
    const cards = [];
    const answers = await ofOneModel(entries, signal);
    for (const [index, { file }] of entries.entries()) {
      const answer = answers[index];
      const bitmap = await readable(file);
      signal.throwIfAborted();
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

/** Resolve to the answers for two entries. If the model was changed between them, the first is asked for again. */
async function ofOneModel(entries, signal) {
  const ask = ({ file, known }) => predict(file, "", known, signal);
  let first = await ask(entries[0]);
  const second = await ask(entries[1]);
  const differ = () => first.model.name !== second.model.name || first.model.version !== second.model.version;
  if (differ()) first = await ask(entries[0]);
  if (differ()) {
    throw new Problem({ title: "Not compared", detail: "The two answers are of different models. Try again." });
  }
  return [first, second];
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
      showExplanation(await predict(shown, code, knownMetadata(), signal), model);
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
  giveUp();
  prefix = () => "";
  say("Cancelled.");
  get("file").focus();
});
get("class").addEventListener("change", (event) => explain(event.target.value));
onImages((files) => {
  if (given || files.length > 1) forgetMetadata();
  given = true;
  if (files.length > 1) classifyAll(files);
  else classify(files[0]);
}, (why) => {
  prefix = () => "";
  say(why);
  get("status").scrollIntoView({ block: "nearest" });
});
onMetadata(() => {
  if (chosen) classify(chosen, { focus: false }); // the visitor is at the fields
});
wireStrength();
wireList(compare, () => {
  running.abort();
  pending = [];
  chosen = null;
  say("");
});
get("print").addEventListener("click", () => window.print());
attempt(loadModel);
