/* The page is complete without this script: it sorts tables and marks the current section. */
"use strict";

/* A click on a heading sorts: descending, ascending, original order. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const next = before === "descending" ? "ascending" : before === "ascending" ? null : "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const compare = (first, second) => {
        const a = value(first, column), b = value(second, column);
        const x = parseFloat(a), y = parseFloat(b);
        if (isNaN(x) && isNaN(y)) return sign * a.localeCompare(b);
        return isNaN(x) ? 1 : isNaN(y) ? -1 : sign * (x - y); /* missing values last */
      };
      body.append(...(next ? [...original].sort(compare) : original));
    });
  });
}

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
document.querySelectorAll("main > header, main > section").forEach((section) => reading.observe(section));
