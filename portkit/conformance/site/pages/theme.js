"use strict";
// Light, dark, or as the system has it. Runs before the page is painted; the switch is there once it has been read.
{
  const MODES = ["system", "light", "dark"];
  const KEY = "portkit-theme";
  const root = document.documentElement;

  const stored = () => {
    try {
      const mode = localStorage.getItem(KEY);
      return MODES.includes(mode) ? mode : "system";
    } catch {
      return "system"; // storage is off; the choice then lasts as long as the page
    }
  };

  const apply = (mode) => {
    if (mode === "system") root.removeAttribute("data-theme");
    else root.dataset.theme = mode;
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    const [sign, word] = { system: ["◐", "Auto"], light: ["☀", "Light"], dark: ["☾", "Dark"] }[mode];
    const text = document.createElement("span");
    text.textContent = ` ${word}`;
    button.replaceChildren(sign, text);
    button.setAttribute("aria-label", `Colours: ${mode}; change`);
  };

  let current = stored();
  apply(current);
  document.addEventListener("DOMContentLoaded", () => {
    apply(current);
    document.getElementById("theme").addEventListener("click", () => {
      current = MODES[(MODES.indexOf(current) + 1) % MODES.length];
      try {
        localStorage.setItem(KEY, current);
      } catch {
        // see above
      }
      apply(current);
    });
  });
}
