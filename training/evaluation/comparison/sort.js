// Sorting a table by a press on a column's title. Buttons take the keyboard, aria-sort tells the order.
// Without this script the tables are read as they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title.textContent;
    title.replaceChildren(button);
    button.addEventListener("click", () => {
      const body = table.tBodies[0];
      const rows = [...body.rows];
      const key = (row) => row.cells[column].dataset.key;
      const numeric = rows.every((row) => !Number.isNaN(Number(key(row))));
      const before = title.getAttribute("aria-sort");
      // Numbers start with the largest, names with A.
      const falling = before ? before === "ascending" : numeric;
      for (const other of titles) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const order = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
      rows.sort((a, b) => {
        const [left, right] = [key(a), key(b)];
        if (left === "" || right === "") return (left === "") - (right === ""); // what is unknown stays last
        return falling ? order(right, left) : order(left, right);
      });
      body.append(...rows);
    });
  });
}
