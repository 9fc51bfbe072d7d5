// Draws a prompt: the stream of events of one picture under the policies, then of the plain one.
import { put, said, send } from "./parts.js";

const at = (id) => document.getElementById(id);
const form = at("ask");
let running = 0;

// Calls `heard` with each event of a stream.
async function listen(answer, heard) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
      if (data) heard(JSON.parse(data.slice(6)));
    }
  }
}

function show(id, source, words) {
  at(id).src = source;
  at(id).alt = words;
  at(id).hidden = false;
}

// The picture of one stream as a data URL, or null if there is none.
async function drawn(url, asked, doing, heard) {
  const bar = at("steps-done");
  let picture = null;
  at("state").textContent = `${doing}: waiting`;
  const answer = await send(url, asked);
  if (!answer.ok) {
    at("state").textContent = await said(answer);
    return null;
  }
  await listen(answer, (event) => {
    if (event.error) at("state").textContent = event.error.message;
    else if (event.type.endsWith(".step")) {
      bar.hidden = false;
      bar.max = event.steps;
      bar.value = event.step;
      at("state").textContent = `${doing}: step ${event.step} of ${event.steps}`;
    } else if (event.type.endsWith(".completed")) {
      picture = `data:image/${event.output_format};base64,${event.b64_json}`;
      at("state").textContent = `${doing}: done`;
    } else heard(event);
  });
  bar.hidden = true;
  return picture;
}

function heardOf(event) {
  if (event.type === "console.explained") put(at("explained"), event.html);
  else if (event.type === "console.told") put(at("told"), event.html);
  else if (event.type === "console.rung") {
    const line = document.createElement("li");
    line.textContent = `${event.rung}: ${event.result}`;
    at("rungs").append(line);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const mine = ++running;
  const asked = new FormData(form);
  if (!asked.get("seed")) asked.set("seed", String(Math.floor(Math.random() * 2 ** 31)));
  for (const id of ["plain", "steered", "below", "above"]) at(id).hidden = true;
  for (const id of ["rungs", "told", "explained"]) at(id).replaceChildren();
  try {
    const steered = await drawn("/console/draw", asked, "under the policies", heardOf);
    if (mine !== running || !steered) return;
    show("steered", steered, `drawn under the policies: ${asked.get("prompt")}`);
    if (!at("compare").checked) return;
    const plain = await drawn("/console/plain", asked, "plainly", () => {});
    if (mine !== running || !plain) return;
    show("plain", plain, `drawn plainly: ${asked.get("prompt")}`);
    show("below", plain, "");
    show("above", steered, "the difference of the two pictures");
  } catch {
    at("state").textContent = "the service cannot be reached";
  }
});
