// Small helps on the pages of managers; every page works without them but for copying.

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

// What was refused before is not said of the next attempt; a dashboard's own requests are none.
document.addEventListener("htmx:before:request", (event) => {
  if (event.detail.ctx.request.method !== "GET") {
    document.getElementById("problem").textContent = "";
  }
});
