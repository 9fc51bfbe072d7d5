// Line numbers, places of problems, and the fields of the schema that may stand at the cursor.
import { put, send } from "./parts.js";

const text = document.getElementById("text");
const gutter = document.getElementById("gutter");
const where = document.getElementById("where");
const form = document.getElementById("draft");
let wrong = new Set();
let soon = 0;

function number() {
  gutter.replaceChildren(
    ...text.value.split("\n").map((_, k) => {
      const line = document.createElement("span");
      line.textContent = `${k + 1}\n`;
      if (wrong.has(k + 1)) line.className = "at";
      return line;
    }),
  );
  gutter.scrollTop = text.scrollTop;
}

function place() {
  const before = text.value.slice(0, text.selectionStart).split("\n");
  return [before.length, before.at(-1).length + 1];
}

async function ask() {
  const [line, column] = place();
  const asked = new FormData(form);
  asked.delete("prompts");
  asked.set("line", line);
  asked.set("column", column);
  const answer = await send("/console/draft/fields", asked);
  if (answer.ok) put(document.getElementById("fields"), await answer.text());
}

function moved() {
  const [line, column] = place();
  where.textContent = `Line ${line}, column ${column}`;
  clearTimeout(soon);
  soon = setTimeout(ask, 400);
}

function go(line, column) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
  text.focus();
  text.setSelectionRange(start, start);
  text.scrollTop = (line - 5) * (text.scrollHeight / lines.length);
  moved();
}

text.addEventListener("input", () => { number(); moved(); });
text.addEventListener("scroll", () => { gutter.scrollTop = text.scrollTop; });
for (const name of ["click", "keyup"]) text.addEventListener(name, moved);
document.addEventListener("filled", (event) => {
  if (event.target.id === "fields") return;
  wrong = new Set([...event.target.querySelectorAll(".bad [data-line]")].map((each) => Number(each.dataset.line)));
  number();
});
document.addEventListener("click", (event) => {
  const { line, column, insert } = event.target.dataset ?? {};
  if (line) go(Number(line), Number(column));
  else if (insert) {
    text.focus();
    text.setRangeText(insert, text.selectionStart, text.selectionEnd, "end");
    number();
    moved();
  }
});
number();
moved();
