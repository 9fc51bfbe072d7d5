// Shows a picture of a case in clear once its button is pressed, and blurred again at the next press. It is fetched at the
// first press only: the service records each look.
import { said, send } from "./parts.js";

async function show(button) {
  const clear = button.parentElement.querySelector(".clear");
  if (!clear.src) {
    const answer = await send(button.dataset.clear);
    if (!answer.ok) throw new Error(await said(answer));
    clear.src = URL.createObjectURL(await answer.blob());
  }
  clear.hidden = !clear.hidden;
  button.setAttribute("aria-pressed", String(!clear.hidden));
}

for (const button of document.querySelectorAll("[data-clear]")) {
  button.disabled = false; // a press before this line would be lost
  button.addEventListener("click", async () => {
    const state = document.getElementById("state");
    button.disabled = true;
    try {
      await show(button);
      state.textContent = "";
    } catch (error) {
      state.textContent = error instanceof TypeError ? "the service cannot be reached" : error.message;
    } finally {
      button.disabled = false;
      button.focus();
    }
  });
}
