/* The page is whole without this: it sorts tables and lets charts answer a pointer. */
"use strict";

/* Tables sort by the heading's button: up, down, as they were. */
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
      const was = heading.getAttribute("aria-sort");
      const next = was === "descending" ? "ascending" : was === "ascending" ? null : "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const compare = (one, other) => {
        const a = value(one, column), b = value(other, column);
        const x = parseFloat(a), y = parseFloat(b);
        if (isNaN(x) && isNaN(y)) return sign * a.localeCompare(b);
        return isNaN(x) ? 1 : isNaN(y) ? -1 : sign * (x - y); /* what has no value stands last */
      };
      body.append(...(next ? [...original].sort(compare) : original));
    });
  });
}

/* Charts: the SVG stays for paper and old browsers, plotly takes its place on a screen. */
const charts = [...document.querySelectorAll(".chart")];
const colours = (value, style) => {
  if (typeof value === "string") {
    if (value === "inherit") return style.getPropertyValue("--font").trim();
    const name = /^var\((--[a-z]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((each) => colours(each, style));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, colours(each, style)]));
  return value;
};

async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

async function draw(chart) {
  let place = chart.querySelector(".plot");
  if (!place) {
    place = document.createElement("div");
    place.className = "plot";
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", chart.querySelector("svg").getAttribute("aria-label"));
    chart.append(place);
  }
  place.style.aspectRatio = chart.dataset.ratio;
  if (chart.dataset.least) place.style.minHeight = `${chart.dataset.least}px`; /* names keep their lines */
  chart.classList.add("live");
  const { data, layout } = colours(
    JSON.parse(chart.querySelector("script").textContent), getComputedStyle(document.documentElement));
  try {
    await Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  } catch (error) {
    chart.classList.remove("live");
    throw error;
  }
}

if (charts.length && "DecompressionStream" in window && "IntersectionObserver" in window) {
  let loading;
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      loading ??= loadPlotly();
      loading.then(() => draw(target)).catch(() => {}); /* the SVG is there already */
    }
  }, { rootMargin: "400px" });
  charts.forEach((chart) => near.observe(chart));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.querySelectorAll(".chart.live").forEach((chart) => draw(chart).catch(() => {})));
}

/* The section being read is marked in the list of sections. */
if ("IntersectionObserver" in window) {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const read = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > header, main > section").forEach((section) => read.observe(section));
}
