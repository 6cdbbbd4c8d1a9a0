// Asks the service at URL for a prediction, an overlay, a batch and a refusal. Prints what it gets as JSON.
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const { URL: url, KEY: key } = process.env;
if (!url || !key) throw new Error("URL and KEY are required");
const client = createClient<paths>({ baseUrl: url, headers: { "X-API-Key": key } });
const image = new Blob([await readFile("lesion.jpg")], { type: "image/jpeg" });

function form(parts: Record<string, Blob | Blob[]>): FormData {
  const data = new FormData();
  for (const [name, blobs] of Object.entries(parts))
    for (const blob of [blobs].flat()) data.append(name, blob, "lesion.jpg");
  return data;
}

const one = await client.POST("/predict", {
  params: { query: { gradcam: true } },
  body: { file: image },
  bodySerializer: () => form({ file: image }),
});
if (one.error) throw new Error(one.error.detail);
const raw = await client.POST("/predict", {
  body: image,
  bodySerializer: (body) => body,
  headers: { "Content-Type": "image/jpeg" },
});
if (raw.error) throw new Error(raw.error.detail);

const files = [image, new Blob(["no image"])];
const batch = await client.POST("/predict/batch", {
  params: { query: { gradcam: true, gradcam_class: "mel" } },
  body: { files },
  bodySerializer: () => form({ files }),
});
if (batch.error) throw new Error(batch.error.detail);
const results = batch.data.results.map((result) =>
  result.kind === "prediction" // tells the compiler which of the two it is
    ? { index: result.index, label: result.prediction.label, overlay: result.gradcam?.label }
    : { index: result.index, status: result.status, type: result.type },
);

const drawn = await client.POST("/gradcam", {
  body: { file: image },
  bodySerializer: () => form({ file: image }),
  parseAs: "blob",
});
if (drawn.error) throw new Error(drawn.error.detail);

const refused = await client.POST("/predict", {
  body: { file: files[1]! },
  bodySerializer: () => form({ file: files[1]! }),
});
if (!refused.error) throw new Error("the refusal is missing");

console.log(
  JSON.stringify({
    probabilities: one.data.probabilities,
    raw: raw.data.probabilities,
    gradcam: one.data.gradcam?.label,
    overlay: { size: drawn.data.size, label: drawn.response.headers.get("X-Gradcam-Label") },
    results,
    refused: { type: refused.error.type, status: refused.error.status },
  }),
);
