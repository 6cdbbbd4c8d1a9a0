// All requests of this page to the service. The API key is kept only in the memory of this module.

const TIMEOUT = 300_000; // ms; longer than the default deadline of the service

const KEY_NEEDED = { title: "A key is required", detail: "This service requires an API key." };

let key = "";

/** The reason why a request failed. `status` is 0 if there was no response. */
export class Problem extends Error {
  constructor({ title, detail, status = 0, requestId = "", retryAfter = 0 }) {
    super(detail);
    Object.assign(this, { title, detail, status, requestId, retryAfter });
  }
}

/** Send `text` as the API key from now on. Throws a Problem if it is not a possible key. */
export function useKey(text) {
  if (!/^[\x21-\x7e]+$/.test(text)) {
    const detail = "A key has no spaces and no accented letters.";
    throw new Problem({ title: "This is not a key", detail, status: 401 });
  }
  key = text;
}

/**
 * Resolve to the JSON at `path`. With a `body`, the request is a POST.
 *
 * `onSent(share)` receives the progress of the upload, 0..1. Rejects with a Problem, or the signal's reason.
 * Uses XMLHttpRequest, because fetch does not report the progress of an upload.
 */
export function ask(path, { body = null, signal = null, onSent = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
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
      detail: "The network may be down, or the service may have stopped.",
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
    detail: detail ?? `Another server responded instead of the service (HTTP ${request.status}).`,
    status: request.status,
    requestId: request.getResponseHeader("X-Request-ID") ?? "",
    retryAfter: Number(request.getResponseHeader("Retry-After")) || 0,
  });
}
