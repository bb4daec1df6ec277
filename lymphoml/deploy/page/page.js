"use strict";
const byId = (id) => document.getElementById(id);
const form = byId("form"), input = byId("images"), ask = byId("ask"), SHOWN = 6;
let files = [], pictures = [], asks = 0;

function choose(chosen) {
  forget();
  byId("problems").replaceChildren();
  files = [...chosen];
  const kept = new DataTransfer();
  for (const file of files) kept.items.add(file);
  input.files = kept.files;
  byId("count").textContent = files.length === 1 ? "1 image chosen." : `${files.length} images chosen.`;
}

function add(parent, tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  parent.append(element);
  return element;
}

function showProblems(problems, asked) {
  const place = byId("problems");
  place.replaceChildren();
  for (const line of problems) add(place, "p", line).className = "problem";
  const named = asked.filter((file) => problems.some((line) => line.startsWith(`image ${file.name}: `)));
  if (!named.length || named.length === asked.length) return;
  const button = add(place, "button", `Leave ${named.length === 1 ? "this image" : `these ${named.length} images`} out and ask again`);
  button.type = "button";
  button.addEventListener("click", () => {
    choose(asked.filter((file) => !named.includes(file)));
    form.requestSubmit();
  });
}

function showAnswer(answer, asked) {
  const share = (value) => value.toFixed(3);
  byId("probability").textContent = `Probability of tumoral ${share(answer.probability)} ` +
    `(${share(answer.lowest)} to ${share(answer.highest)} over ${answer.models} models); called ${answer.called}.`;
  const decisions = { rule_out: "Ruled out: ", test: "Test: " };
  const decision = (decisions[answer.decision] || "") + answer.reason + ".";
  byId("decision").textContent = decision[0].toUpperCase() + decision.slice(1);
  byId("warnings").replaceChildren();
  for (const line of answer.warnings) add(byId("warnings"), "li", line);
  for (const picture of pictures.splice(0)) URL.revokeObjectURL(picture);
  byId("cells").replaceChildren();
  for (const cell of answer.cells.slice(0, SHOWN)) {
    const item = add(byId("cells"), "li", "");
    const image = document.createElement("img");
    const effect = (cell.effect < 0 ? "\u2212" : "+") + Math.abs(cell.effect).toFixed(3);
    pictures.push(image.src = URL.createObjectURL(asked[cell.number]));
    image.alt = `cell of ${cell.image}`;
    item.append(image);
    add(item, "div", effect);
    add(item, "div", cell.image);
  }
  byId("moved").hidden = !answer.cells.length;
  byId("result").hidden = false;
  byId("result-title").focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new FormData(form), asked = files;
  for (const file of asked) body.append("images", file, file.name);
  byId("problems").replaceChildren();
  byId("result").hidden = true;
  ask.disabled = true;
  const number = ++asks;
  let show = () => showProblems(["The program does not answer. Is it still running?"], asked);
  try {
    const response = await fetch("/answer", { method: "POST", body });
    const content = await response.json();
    show = () => response.ok ? showAnswer(content, asked) : showProblems(content.problems, asked);
  } catch { /* said above */ }
  ask.disabled = false;
  if (number === asks) show();
});

function forget() {  // an answer to other inputs than those shown
  asks++;
  byId("result").hidden = true;
}

form.addEventListener("input", forget);

if (input) {
  const drop = byId("drop");
  input.addEventListener("change", () => choose(input.files));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") choose(event.dataTransfer.files);
    });
  }
}
