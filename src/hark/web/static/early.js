// A button that is pressed before the page's scripts are there is pressed once they are. By itself
// the browser would send its form, with what is in it in the address, and nothing would be done.
{
  let pressed = null;
  const keep = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    pressed = button;
  };
  window.addEventListener("click", keep, true);
  const release = () => {
    window.removeEventListener("click", keep, true);
    pressed?.click();
  };
  // htmx, by then loaded, has asked for its own first turn before.
  window.addEventListener("DOMContentLoaded", () => setTimeout(release));
}
