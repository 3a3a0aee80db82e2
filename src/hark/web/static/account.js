/* Password, API tokens, and being forgotten. */

import { forgetDrafts } from "./draft.js";
import { call, say } from "./hark.js";

const find = (name) => document.getElementById(name);

/** Do it, and say so where it fails. */
function trying(act, tell = (words) => say(words, { problem: true })) {
  return async (event) => {
    event.preventDefault();
    try {
      await act(event);
    } catch (error) {
      tell(error.message);
    }
  };
}

find("password-form").addEventListener("submit", trying(async (event) => {
  await call("PUT", "/me/password", { body: Object.fromEntries(new FormData(event.target)) });
  // A new session began, with a CSRF token of its own.
  window.location.hash = "changed";
  window.location.reload();
}));

find("token-form").addEventListener("submit", trying(async (event) => {
  const given = new FormData(event.target);
  const wish = { label: given.get("label"), days: Number(given.get("days")) };
  const { secret } = await call("POST", "/tokens", { body: wish });
  find("secret").textContent = secret;
  find("new-token").hidden = false;
  event.target.reset();
  say("Made. Copy it now.");
}));

for (const button of document.querySelectorAll("[data-revoke]")) {
  button.addEventListener("click", trying(async () => {
    await call("DELETE", `/tokens?label=${encodeURIComponent(button.dataset.revoke)}`);
    button.closest("tr").remove();
    say("Revoked.");
  }));
}

find("forget").addEventListener("click", () => find("forgetting").showModal());
find("forgetting").querySelector("[data-closes]").addEventListener("click", () => find("forgetting").close());
find("forget-form").addEventListener("submit", trying(async (event) => {
  const form = event.target;
  const given = new FormData(form);
  const typed = given.get("login").trim().toLowerCase();
  if (typed !== form.dataset.login) throw new Error("That is not your login; nothing was erased.");
  await call("DELETE", "/me", { body: { password: given.get("password") } });
  await forgetDrafts();
  window.location.assign("/login");
// The page behind the dialogue cannot be seen, nor does a screen reader read it.
}, (words) => { find("forget-problem").textContent = words; }));

if (window.location.hash === "#changed") {
  say("The password is changed; every other session has ended.");
  window.history.replaceState(null, "", "/account");
}
