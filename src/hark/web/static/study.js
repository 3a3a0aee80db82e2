/* The page of a study: switches of consent, and the self-assessment of a screening test. */

import { newKey, persist, say } from "./hark.js";

for (const box of document.querySelectorAll("[data-consent]")) {
  box.addEventListener("change", async () => {
    const path = `/studies/${box.dataset.study}/consents/${encodeURIComponent(box.dataset.consent)}`;
    box.disabled = true;
    try {
      await persist(box.checked ? "PUT" : "DELETE", path, { key: newKey() });
      say(box.checked ? "Noted: you may be shown such items." : "Noted: you are shown no more such items.");
    } catch (error) {
      box.checked = !box.checked;
      say(error.message, { problem: true });
    } finally {
      box.disabled = false;
      box.focus();
    }
  });
}

const assessment = document.getElementById("assessment");
assessment?.addEventListener("change", async () => {
  try {
    await persist("POST", `/studies/${assessment.dataset.study}/screening/assessment`, { key: newKey(), body: { grade: Number(assessment.value) } });
    say("Noted.");
  } catch (error) {
    say(error.message, { problem: true });
  }
});
