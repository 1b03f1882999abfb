// What the page does in the browser alone: wording, links, full screen, printing, and what a card's button says.
(() => {
  const root = document.documentElement, memory = "cuescope-words";

  // The address holds what is shown: tab and its part, example, detector, map, step of the tour, wording; never an uploaded picture.
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
    const tab = event.target.closest("[role=tab]"), slides = event.target.closest("button[data-slides]");
    if (words) {
      speak(words.dataset.words);
      try { localStorage.setItem(memory, words.dataset.words); } catch { /* a browser without memory */ }
      link({words: words.dataset.words === "expert" ? "expert" : null});
    }
    if (reason) { event.preventDefault(); show(reason.dataset.shows); }
    if (slides) fill(slides.getAttribute("aria-pressed") === "true" ? null : document.getElementById(slides.dataset.slides));
    if (tab) link(place(tab));
  });

  // A part of Teach alone on the screen, in large type: in the browser's full screen where it allows that, else over the page.
  const filling = () => document.querySelector(".slides");
  const fill = (element) => {
    filling()?.classList.remove("slides");
    element?.classList.add("slides");
    for (const button of document.querySelectorAll("button[data-slides]")) {
      const pressed = button.dataset.slides === element?.id;
      button.setAttribute("aria-pressed", String(pressed));
      button.textContent = pressed ? "Leave full screen" : "Full screen";
    }
    if (element) element.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement) document.exitFullscreen();
  };
  document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) fill(null); });
  document.addEventListener("keydown", (event) => {
    if (!filling()) return;
    const buttons = {ArrowRight: "#tour-next", ArrowLeft: "#tour-previous"};
    if (event.key === "Escape") fill(null);
    if (event.key in buttons && !event.target.closest("input, textarea")) filling().querySelector(buttons[event.key])?.click();
  });

  // Only the hand-out is printed while it is open.
  addEventListener("beforeprint", () => root.toggleAttribute("data-sheet", Boolean(document.querySelector(".sheet")?.offsetParent)));
  addEventListener("afterprint", () => root.removeAttribute("data-sheet"));

  const inside = (tab) => Boolean(tab.closest("#teach-parts"));
  const place = (tab) => {
    const name = tab.textContent.trim();
    return inside(tab) ? {part: name} : {tab: name === "Analyze" ? null : name, part: null};
  };
  const asks = new URLSearchParams(location.search), wanted = {tab: asks.get("tab"), part: asks.get("part")};
  const open = (key) => {
    if (!wanted[key]) return;
    const tabs = [...document.querySelectorAll("[role=tab]")].filter((tab) => inside(tab) === (key === "part"));
    const tab = tabs.find((tab) => tab.textContent.trim() === wanted[key]);
    if (tab) { wanted[key] = null; tab.click(); }
  };
  // For screen readers. Gradio's icons say nothing that the words beside them do not say, but screen readers stop at each.
  const tell = () => {
    for (const icon of document.querySelectorAll("svg:not([aria-hidden], [aria-label], [role], .main-svg)")) icon.ariaHidden = "true";
    // A label names the first control inside it, which here is the button that copies.
    for (const field of document.querySelectorAll("label textarea:not([aria-label])")) {
      if (!field.labels.length) field.ariaLabel = field.closest("label").innerText.trim();
    }
  };

  let waiting = false;
  const follow = () => {
    waiting = false;
    label();
    tell();
    if (document.querySelector("button[data-words]:not([aria-pressed])")) speak(root.dataset.words);
    open("tab");
    if (!wanted.tab) open("part");
  };
  new MutationObserver(() => {
    if (!waiting) { waiting = true; requestAnimationFrame(follow); }
  }).observe(root, {subtree: true, childList: true, attributes: true, attributeFilter: ["class", "style"]});
})();
