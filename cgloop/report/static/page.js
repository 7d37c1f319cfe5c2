"use strict";
// Which cycle is shown, which section the reader is in, and what paper needs: light colours, its width, nothing folded.
(() => {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const show = (cycle) => {
    for (const part of document.querySelectorAll("[data-cycle]")) part.hidden = part.dataset.cycle !== cycle;
    for (const tab of tabs) {
      const chosen = tab.dataset.shows === cycle;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
  };
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => show(tab.dataset.shows));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = tabs[(k + step + tabs.length) % tabs.length];
      show(next.dataset.shows);
      next.focus();
    });
  });
  const chosen = tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
  if (chosen) show(chosen.dataset.shows);
  for (const link of document.querySelectorAll("[data-show]")) link.addEventListener("click", () => show(link.dataset.show));
  // A link into a cycle that is not shown shows it.
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const part = target && target.closest("[data-cycle]");
    if (part && part.hidden) { show(part.dataset.cycle); target.scrollIntoView(); }
  };
  addEventListener("hashchange", follow);
  follow();

  const links = new Map([...document.querySelectorAll("nav a[href^='#']")].map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const link = links.get(target.id);
      if (link && isIntersecting) {
        link.closest("nav").querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
        link.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const id of links.keys()) { const target = document.getElementById(id); if (target) seen.observe(target); }

  const paper = { closed: [] };
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    paper.closed = [...document.querySelectorAll("details:not([open]):not(.long)")].filter((one) => one.offsetParent);
    for (const one of paper.closed) one.open = true;
    cg.redraw();
    cg.viewers.forEach((draw) => draw());
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    for (const one of paper.closed) one.open = false;
    cg.redraw();
    cg.viewers.forEach((draw) => draw());
  });
})();
