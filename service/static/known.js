// Age, sex and body site: optional facts that some models use besides the image.

import { Problem } from "./api.js";

const form = document.getElementById("known");

/** Show the fields if the model uses them. `spec` is the member `metadata` of `GET /model`. */
export function offerMetadata(spec) {
  form.hidden = !spec;
  for (const [name, values] of [["sex", spec?.sexes ?? []], ["site", spec?.sites ?? []]]) {
    const field = form.elements[name];
    const chosen = field.value;
    field.replaceChildren(new Option("not known", ""), ...values.map((value) => new Option(value, value)));
    field.value = values.includes(chosen) ? chosen : "";
  }
  if (!spec) form.reset();
}

/** The known values as [name, text] pairs. Throws a Problem if the age is not a number of years. */
export function knownMetadata() {
  if (!form.elements.age.checkValidity()) {
    form.elements.age.focus();
    throw new Problem({ title: "Check the age", detail: "Enter a number of years from 0 to 120, or nothing." });
  }
  return [...new FormData(form)].filter(([, value]) => value);
}

/** Show values that an earlier result was made with. Calls nothing. */
export function restoreMetadata(known) {
  forgetMetadata();
  for (const [name, value] of known) form.elements[name].value = value;
}

/** Empty the fields: the next image may be of another patient. Calls nothing. */
export function forgetMetadata() {
  for (const field of form.querySelectorAll("input, select")) field.value = "";
}

/** Call `changed()` after each change of a value. */
export function onMetadata(changed) {
  form.addEventListener("change", changed);
  form.addEventListener("reset", () => setTimeout(changed)); // the fields are cleared after the event
  form.addEventListener("submit", (event) => event.preventDefault()); // a change event comes with it
}
