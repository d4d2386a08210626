// Light or dark: as the system says, or as the reader has chosen.  Loaded first, so that a page in the
// dark does not begin with a flash.

const KEY = "slardar-theme";
const ORDER = ["auto", "light", "dark"];

let chosen = "auto";
try {
  chosen = localStorage.getItem(KEY) ?? "auto";
} catch {
  // Without storage the choice lasts as long as the page.
}
if (!ORDER.includes(chosen)) chosen = "auto";

function apply() {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

/** Let a button change the theme. */
export function bindTheme(button) {
  const tell = () => {
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[chosen];
    const name = `Theme: ${chosen === "auto" ? "as the system" : chosen}`;
    button.setAttribute("aria-label", name);
    button.title = name;
  };
  tell();
  button.addEventListener("click", () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // See above.
    }
    apply();
    tell();
  });
}

apply();
