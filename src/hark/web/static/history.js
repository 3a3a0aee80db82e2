/* Taking a label of one's own back. */

import { newKey, persist, say } from "./hark.js";

const dialog = document.getElementById("retracting");
let wanted = null;

for (const button of document.querySelectorAll("[data-retract]")) {
  const key = newKey();
  button.addEventListener("click", () => {
    wanted = { button, key };
    dialog.returnValue = "";
    dialog.showModal();
  });
}
dialog.querySelector("[data-closes]").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", async () => {
  if (dialog.returnValue !== "yes") return;
  const { button, key } = wanted;
  try {
    await persist("POST", `/events/${button.dataset.retract}/corrections`, { key, body: { answer: null } });
    button.closest("li").remove();
    say("Taken back.");
  } catch (error) {
    say(error.message, { problem: true });
  }
});
