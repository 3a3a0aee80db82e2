// What is pressed or chosen before the page's scripts are there is done once they are. By itself
// the browser would send what is in a form in the page's address, and do nothing of the rest.
{
  const kept = [];
  const keep = (event) => {
    const element = event.type === "click" ? event.target.closest("button") : event.target;
    // A form with an address of its own, such as the login, needs no script.
    if (!element || element.form?.hasAttribute("action")) return;
    event.stopImmediatePropagation();
    if (event.type === "click") event.preventDefault();
    if (!kept.includes(element)) kept.push(element);
  };
  const types = ["click", "change"];
  for (const type of types) window.addEventListener(type, keep, true);
  const release = () => {
    for (const type of types) window.removeEventListener(type, keep, true);
    for (const element of kept) {
      if (element.matches("button")) element.click();
      else element.dispatchEvent(new Event("change", { bubbles: true }));
    }
  };
  // htmx, by then loaded, has asked for its own first turn before.
  window.addEventListener("DOMContentLoaded", () => setTimeout(release));
}
