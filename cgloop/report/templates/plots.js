"use strict";
// Draws every figure into its place; on paper all get a width that fits.
(() => {
  const source = document.getElementById("figures");
  if (!source) return;
  const figures = JSON.parse(source.textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const places = [...document.querySelectorAll(".plot[data-figure]")];
  const config = { displayModeBar: false, responsive: true, displaylogo: false, showTips: false };

  for (const place of places) {
    const { data, layout } = figures[place.dataset.figure];
    // A finger that scrolls the page must not zoom a plot.
    if (touch) {
      layout.dragmode = false;
      for (const name of ["xaxis", "yaxis", "yaxis2"]) if (layout[name]) layout[name].fixedrange = true;
    }
    Plotly.newPlot(place, data, layout, config);
  }

  const setWidth = (width) => {
    for (const place of places) {
      const columns = place.closest(".columns-1") ? 1 : place.closest(".columns-3") ? 3 : 2;
      Plotly.relayout(place, width ? { width: Math.floor(width / columns) - 16, autosize: false } : { width: null, autosize: true });
    }
  };
  addEventListener("beforeprint", () => setWidth(680));
  addEventListener("afterprint", () => setWidth(0));
})();
