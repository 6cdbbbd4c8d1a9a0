// Shows what failed, and what the reader can do about it.

import { useKey } from "./api.js";

const get = (id) => document.getElementById(id);
const LARGE = 10_000_000; // bytes; above it, a lost connection may mean that the service refused the size
let ticking = 0;

/** Show `problem`. `again` repeats the failed action. `file` is the file that was sent, or null. */
export function showTrouble(problem, again, file = null) {
  const unreached = problem.status === 0;
  const repeat = () => {
    get("file").focus(); // the element with the focus is about to be hidden
    again();
  };
  get("trouble-title").textContent = problem.title;
  const tooLarge = unreached && file?.size > LARGE
    ? ` The image has ${Math.round(file.size / 1e6)} MB. It may be too large.` : "";
  get("trouble-detail").textContent = problem.detail + tooLarge;
  get("trouble-quote").hidden = !problem.requestId;
  get("trouble-id").textContent = problem.requestId;
  const locked = problem.status === 401;
  get("key-form").hidden = !locked;
  get("key-form").onsubmit = (event) => {
    event.preventDefault();
    const text = get("key").value.trim();
    get("key").value = "";
    try {
      useKey(text);
    } catch (wrong) {
      showTrouble(wrong, again, file);
      return;
    }
    repeat();
  };
  // A retry may help if the cause is the service, not the image.
  get("again").hidden = locked || !(unreached || [408, 429].includes(problem.status) || problem.status >= 500);
  get("again").onclick = repeat;
  wait(problem.retryAfter);
  get("trouble").hidden = false;
  (locked ? get("key") : get("trouble-title")).focus();
}

export function hideTrouble() {
  clearInterval(ticking);
  get("trouble").hidden = true;
}

/** Disable the button for the seconds in Retry-After, and show the rest of the time. */
function wait(seconds) {
  const until = Date.now() + seconds * 1000;
  const show = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    get("again").disabled = left > 0;
    get("again").textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left <= 0) clearInterval(ticking);
  };
  clearInterval(ticking);
  ticking = setInterval(show, 250);
  show();
}
