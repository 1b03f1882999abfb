// What the page does in the browser alone: wording, links, and what a card's button says.
(() => {
  const root = document.documentElement, memory = "cuescope-words";

  // The address holds what is shown: tab, example, detector, map, wording; never an uploaded picture.
  const link = (values) => {
    const address = new URL(location.href);
    for (const [key, value] of Object.entries(values)) {
      if (value && typeof value === "string" && value !== "embedded") address.searchParams.set(key, value);
      else address.searchParams.delete(key);
    }
    history.replaceState(history.state, "", address);
  };
  window.cuescope = {link};

  const remembered = () => { try { return localStorage.getItem(memory); } catch { return null; } };
  const asked = new URLSearchParams(location.search).get("words");
  const speak = (words) => {
    root.dataset.words = words;
    for (const button of document.querySelectorAll("button[data-words]")) {
      button.setAttribute("aria-pressed", String(button.dataset.words === words));
    }
  };
  speak((asked ?? remembered()) === "expert" ? "expert" : "plain");

  // A card's button says whether its panel is open; the panel itself comes and goes by the page's own events.
  const panel = (key) => document.getElementById(`place-${key}`);
  const label = () => {
    for (const button of document.querySelectorAll("button[data-opens]")) {
      const open = Boolean(panel(button.dataset.opens)?.offsetParent);
      if (button.getAttribute("aria-expanded") !== String(open)) {
        button.setAttribute("aria-expanded", String(open));
        button.querySelector("span").textContent = open ? "Close" : "Open";
      }
    }
  };

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const show = (key) => {
    const button = document.querySelector(`button[data-opens="${key}"]`);
    if (!button) return;
    if (button.getAttribute("aria-expanded") !== "true") button.click();
    button.focus({preventScroll: true});
    button.closest(".method").scrollIntoView({behavior: calm() ? "auto" : "smooth", block: "start"});
  };

  document.addEventListener("click", (event) => {
    const words = event.target.closest("button[data-words]"), reason = event.target.closest("a[data-shows]");
    const tab = event.target.closest("[role=tab]");
    if (words) {
      speak(words.dataset.words);
      try { localStorage.setItem(memory, words.dataset.words); } catch { /* a browser without memory */ }
      link({words: words.dataset.words === "expert" ? "expert" : null});
    }
    if (reason) { event.preventDefault(); show(reason.dataset.shows); }
    if (tab) link({tab: tab.textContent.trim() === "Analyze" ? null : tab.textContent.trim()});
  });

  let tab = new URLSearchParams(location.search).get("tab"), waiting = false;
  const follow = () => {
    waiting = false;
    label();
    if (document.querySelector("button[data-words]:not([aria-pressed])")) speak(root.dataset.words);
    const wanted = tab && [...document.querySelectorAll("[role=tab]")].find((one) => one.textContent.trim() === tab);
    if (wanted) { tab = null; wanted.click(); }
  };
  new MutationObserver(() => {
    if (!waiting) { waiting = true; requestAnimationFrame(follow); }
  }).observe(root, {subtree: true, childList: true, attributes: true, attributeFilter: ["class", "style"]});
})();
