// Buttons with `data-into` send their form, and the answer, which the server has escaped, becomes a part of the page.

// The answer to a form, or to a question without one.
export async function send(url, form) {
  const answer = await fetch(url, form ? { method: "POST", body: form } : {});
  if (answer.status === 401) location.assign("/console/sign-in");
  return answer;
}

// What a failed answer says, in one sentence.
export async function said(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `the service answered ${answer.status}`;
  }
}

export function put(into, html) {
  into.innerHTML = html;
  into.dispatchEvent(new Event("filled", { bubbles: true }));
}

document.addEventListener("submit", async (event) => {
  const button = event.submitter;
  const into = button && document.getElementById(button.dataset.into);
  if (!into) return;
  event.preventDefault();
  into.setAttribute("aria-busy", "true");
  try {
    const answer = await send(button.formAction, new FormData(event.target));
    if (answer.ok) put(into, await answer.text());
    else into.textContent = await said(answer);
  } catch {
    into.textContent = "the service cannot be reached";
  } finally {
    into.removeAttribute("aria-busy");
  }
});
