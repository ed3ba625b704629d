for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.s ?? row.cells[i].textContent;
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const missing = (text) => text === "" || text === "–";
    const order = (a, b) => {
      const [x, y] = [value(a, i), value(b, i)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return sign * (isNaN(x - y) ? x.localeCompare(y, "en", { numeric: true }) : x - y);
    };
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }));
}
