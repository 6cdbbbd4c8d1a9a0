// The ways an image comes in: chosen, photographed, dropped, pasted.

/** Call `take(file)` for every image given, and `refuse(sentence)` where something else was. */
export function onImage(take, refuse) {
  const first = (files, without) => {
    if (files.length > 1) refuse(`${files.length} files were given; this page takes one at a time.`);
    else if (files.length === 1) take(files[0]);
    else refuse(without);
  };
  for (const id of ["file", "camera"]) {
    document.getElementById(id).addEventListener("change", (event) => {
      if (event.target.files.length) take(event.target.files[0]);
      event.target.value = ""; // the same file may be chosen again
    });
  }
  // On the whole window: a file dropped beside a small target would replace the page.
  const drop = document.getElementById("drop");
  for (const type of ["dragover", "dragleave", "drop"]) {
    window.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
    });
  }
  window.addEventListener("drop", (event) => first(
    event.dataTransfer.files,
    "What was dropped is no file. Save the image first, and drop that.",
  ));
  window.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return; // a key into its field
    first(event.clipboardData.files, "The clipboard holds no image.");
  });
}
