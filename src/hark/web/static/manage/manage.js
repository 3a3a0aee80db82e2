// Small helps on the pages of managers; every page works without them but for copying.

import { say } from "../hark.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = button.parentElement.querySelector("[data-link]");
  field?.select();
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C to copy";
  }
});

// A group of settings that can be left out is only shown where it is wanted.
function showGroup(box) {
  document.getElementById(box.dataset.opens).hidden = !box.checked;
}
for (const box of document.querySelectorAll("[data-opens]")) {
  showGroup(box);
  box.addEventListener("change", () => showGroup(box));
}

// What is done loads a page, which says so: a line that is read out as it comes in.
document.addEventListener("htmx:after:request", (event) => {
  const said = event.detail.ctx.response.headers.get("X-Said");
  if (said) sessionStorage.setItem("said", decodeURIComponent(said));
});
const said = sessionStorage.getItem("said");
sessionStorage.removeItem("said");
if (said) say(said);

// Names of models that the server knows, put into the field beside them.
document.addEventListener("click", (event) => {
  const { adds, to } = event.target.dataset;
  if (!adds) return;
  const field = document.getElementById(to);
  const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!lines.includes(adds)) field.value = [...lines, adds].join("\n");
  field.focus();
});

// What was refused before is not said of the next attempt; a dashboard's own requests are none.
document.addEventListener("htmx:before:request", (event) => {
  if (event.detail.ctx.request.method !== "GET") {
    document.getElementById("problem").textContent = "";
  }
});
