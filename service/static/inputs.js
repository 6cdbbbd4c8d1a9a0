// The ways to give the page an image: choose, photograph, drop or paste it.

/** Call `take(file)` for each file, and `refuse(sentence)` for anything else. */
export function onImage(take, refuse) {
  const first = (files, without) => {
    if (files.length > 1) refuse(`You gave ${files.length} files. This page takes one at a time.`);
    else if (files.length === 1) take(files[0]);
    else refuse(without);
  };
  for (const id of ["file", "camera"]) {
    document.getElementById(id).addEventListener("change", (event) => {
      if (event.target.files.length) take(event.target.files[0]);
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
  window.addEventListener("drop", (event) => first(
    event.dataTransfer.files,
    "You dropped something that is not a file. Save the image first, and drop the file.",
  ));
  window.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement) return; // a key is pasted into its field
    first(event.clipboardData.files, "The clipboard holds no image.");
  });
}
