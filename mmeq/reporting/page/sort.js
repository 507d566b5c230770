for (const table of document.querySelectorAll("table.sheet")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const first = new Map([...body.rows].map((row, place) => [row, place]));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...body.rows].sort((one, two) => {
        const a = key(one), b = key(two);
        if (a === b) return first.get(one) - first.get(two);
        if (a === "" || b === "") return a === "" ? 1 : -1;
        const by = column === 0 ? a.localeCompare(b) : Number(a) - Number(b);
        return up ? by : -by;
      });
      body.append(...rows);
    });
  });
}
