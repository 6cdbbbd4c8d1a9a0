// The ways to give the page images: choose, photograph, drop or paste them.

/** Call `take(files)` with an array of files, and `refuse(sentence)` for anything else. */
export function onImages(take, refuse) {
  const some = (files, without) => {
    if (files.length > 0) take([...files]);
    else refuse(without);
  };
  for (const id of ["file", "camera"]) {
    document.getElementById(id).addEventListener("change", (event) => {
      if (event.target.files.length) take([...event.target.files]);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  // On the whole window: the browser would open a file that is dropped beside a small target.
  const drop = document.getElementById("drop");
  for (const type of ["dragover", "dragleave", "drop"]) {
    window.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
    });
  }
  window.addEventListener("drop", (event) => some(
    event.dataTransfer.files,
    "You dropped something that is not a file. Save the image first, and drop the file.",
  ));
  window.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return; // a key is pasted into its field
    some(event.clipboardData.files, "The clipboard holds no image.");
  });
}
