// A table of results. It lives in the memory of this page only.

import { drawSmall } from "./pictures.js";
import { make } from "./result.js";
import { flagTitle, percent } from "./words.js";

const get = (id) => document.getElementById(id);
const PAIR = 2; // results that can be compared
let rows = []; // { file, known, answer, problem, row, box }; the answer or the problem is null

/**
 * Add a row for `file`, or replace its row. The result is an `answer`, or a `problem` if the image has no answer.
 * `bitmap` may be null. `known` is the metadata that was sent. `open(file, known)` shows the whole result.
 */
export function addResult(file, bitmap, { answer = null, problem = null, known = [] }, open) {
  const row = make("tr");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.disabled = !answer;
  box.setAttribute("aria-label", `Compare ${file.name}`);
  box.addEventListener("change", updateCompare);
  const picture = document.createElement("canvas");
  drawSmall(picture, bitmap);
  bitmap?.close();
  picture.setAttribute("aria-hidden", "true"); // the next cell names the file
  const name = make("button", file.name, "link");
  name.type = "button";
  name.disabled = !answer;
  name.addEventListener("click", () => open(file, known));
  const cells = answer ? [
    flagTitle(answer.malignancy.flag), percent(answer.malignancy.probability), answer.prediction.name,
    answer.warnings.map(({ code }) => code.replaceAll("_", " ")).join(", "),
  ] : [problem.title, "", "", problem.detail];
  row.dataset.flag = answer?.malignancy.flag ?? "none";
  const head = make("th");
  head.scope = "row";
  head.append(name);
  row.append(cell(box), cell(picture), head, ...cells.map((text) => make("td", text)));
  rows = rows.filter((entry) => entry.file !== file);
  rows.push({ file, known, answer, problem, row, box });
  rows.sort((one, other) => malignancy(other) - malignancy(one));
  get("rows").replaceChildren(...rows.map((entry) => entry.row));
  get("list").hidden = false;
  updateCompare();
}

/** Whether the table has a row for `file`. */
export function isListed(file) {
  return rows.some((entry) => entry.file === file);
}

/** Let the buttons compare two entries with `compare(entries)`, save the table, and clear it after `stop()`. */
export function wireList(compare, stop) {
  get("compare").addEventListener("click", () => compare(rows.filter(({ box }) => box.checked)));
  get("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvOf(rows)], { type: "text/csv" }));
    link.download = "dermaserve-results.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href)); // after the browser has begun to read it
  });
  get("clear").addEventListener("click", () => {
    stop();
    rows = [];
    get("rows").replaceChildren();
    get("list").hidden = get("comparison").hidden = true;
    updateCompare();
    get("file").focus();
  });
}

/** The table as CSV (RFC 4180), with one column for each class. */
export function csvOf(entries) {
  const codes = Object.keys(entries.find(({ answer }) => answer)?.answer.probabilities ?? {});
  const head = ["file", "flag", "malignancy", "threshold", "label", ...codes, "warnings", "metadata_used", "problem",
    "model", "request_id"];
  const lines = entries.map(({ file, answer, problem }) => (answer ? [
    file.name, answer.malignancy.flag, answer.malignancy.probability, answer.malignancy.threshold,
    answer.prediction.label, ...codes.map((code) => answer.probabilities[code]),
    answer.warnings.map(({ code }) => code).join(" "),
    Object.entries(answer.metadata_used ?? {}).map((fact) => fact.join("=")).join("; "), "", `${answer.model.name} ${answer.model.version}`,
    answer.request_id,
  ] : [file.name, "", "", "", "", ...codes.map(() => ""), "", "", problem.title, "", problem.requestId]));
  return [head, ...lines].map((line) => `${line.map(field).join(",")}\r\n`).join("");
}

/** A field in quotes. A spreadsheet would run a text that begins with one of these as a formula. */
function field(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return `"${text.replaceAll('"', '""')}"`;
}

function updateCompare() {
  const chosen = rows.filter(({ box }) => box.checked).length;
  get("compare").disabled = chosen !== PAIR;
  for (const { box, answer } of rows) box.disabled = !answer || (chosen === PAIR && !box.checked);
}

function malignancy({ answer }) {
  return answer?.malignancy.probability ?? -1;
}

function cell(node) {
  const made = make("td");
  made.append(node);
  return made;
}
