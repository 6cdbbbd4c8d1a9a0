// The one way this page talks to the service. The API key lives in this module's memory only.

const TIMEOUT = 300_000; // ms; the service's own deadline is shorter unless its operator set it so

const KEY_NEEDED = { title: "A key is needed", detail: "This service answers only those who have one." };

let key = "";

/** Why there is no answer; `status` is 0 when nothing came back. */
export class Problem extends Error {
  constructor({ title, detail, status = 0, requestId = "", retryAfter = 0 }) {
    super(detail);
    Object.assign(this, { title, detail, status, requestId, retryAfter });
  }
}

/** Send `text` as API key from now on; throws a Problem where it cannot be one. */
export function useKey(text) {
  if (!/^[\x21-\x7e]+$/.test(text)) {
    const detail = "A key has no blanks and no accented letters.";
    throw new Problem({ title: "This is no key", detail, status: 401 });
  }
  key = text;
}

/**
 * The service's JSON from `path`; a POST where there is a `body`.
 *
 * `onSent(share)` is told of the upload, 0..1. Rejects with a Problem, or the signal's reason.
 * XMLHttpRequest, because fetch tells nothing of an upload's progress.
 */
export function ask(path, { body = null, signal = null, onSent = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(body ? "POST" : "GET", path);
    request.responseType = "json";
    request.timeout = TIMEOUT;
    if (key) request.setRequestHeader("X-API-Key", key);
    request.upload.onprogress = (event) => onSent(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 200 && request.response) resolve(request.response);
      else reject(problemOf(request));
    };
    request.onerror = request.ontimeout = () => reject(new Problem({
      title: "The service cannot be reached",
      detail: "The network may be down, or the service stopped.",
    }));
    request.onabort = () => reject(signal.reason);
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

function problemOf(request) {
  const { title, detail } = request.status === 401 && !key ? KEY_NEEDED : request.response ?? {};
  return new Problem({
    title: title ?? "The service cannot be reached",
    detail: detail ?? `Something on the way to it answered in its place (HTTP ${request.status}).`,
    status: request.status,
    requestId: request.getResponseHeader("X-Request-ID") ?? "",
    retryAfter: Number(request.getResponseHeader("Retry-After")) || 0,
  });
}
