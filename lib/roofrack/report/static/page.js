"use strict";
// Draws the charts of a report to the width they have, and serves its few buttons. The page is
// complete without it, but for the drawings: all text and all numbers are in the document.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const AXES = 80; // px beside a plot taken by axis labels, before it is measured
  const NARROWEST = 300; // px: panels narrower than this are stacked instead
  const NARROWEST_FACET = 240; // px: small multiples may be smaller
  const SPACING = 36; // px between panels
  const LABEL_SHARE = 0.4; // of the width, that a label takes at most
  const LEAST_LABEL = 110; // px
  const ERRORS = 1; // level of Vega's log

  // -- width ---------------------------------------------------------------------------------

  const groups = ["hconcat", "vconcat", "concat"];
  const group = (spec) => groups.find((key) => key in spec);

  // A copy of a specification whose panels take the width; `slack` is what measuring corrected.
  function fit(spec, width, slack) {
    if ("facet" in spec && spec.columns) {
      const across = Math.max(1, Math.min(spec.columns, Math.floor(width / NARROWEST_FACET)));
      const room = (width - SPACING * (across - 1) - slack) / across - AXES / 2;
      return { ...spec, columns: across, spec: { ...spec.spec, width: Math.max(80, room) } };
    }
    const key = group(spec);
    if (!key) return spec.width === "container" ? spec : { ...spec, width: Math.max(80, width - AXES - slack) };
    const count = key === "hconcat" ? spec[key].length : 1;
    const each = (width - SPACING * (count - 1)) / count;
    if (count > 1 && each < NARROWEST) {
      const { hconcat, ...rest } = spec;
      return fit({ ...rest, vconcat: hconcat }, width, slack);
    }
    return { ...spec, [key]: spec[key].map((panel) => fit(panel, each, slack / count)) };
  }

  // Room for the title of an axis.
  function panelWidth(spec, width) {
    const across = "facet" in spec ? spec.columns || 1 : "hconcat" in spec ? spec.hconcat.length : 1;
    return Math.max(120, (width - SPACING * (across - 1)) / across - (group(spec) ? 60 : 14));
  }

  const isContainer = (spec) => spec.width === "container";
  const isFixed = (spec) => !group(spec) && !("facet" in spec) && !isContainer(spec);

  // Entries of a legend side by side, as many as the longest one allows.
  function legendColumns(spec, width) {
    let longest = 0;
    JSON.stringify(spec, (key, value) => {
      if (key === "datasets") return undefined;
      if (key === "domain" && Array.isArray(value))
        for (const name of value) if (typeof name === "string") longest = Math.max(longest, name.length);
      return value;
    });
    return Math.max(1, Math.floor((width - 10) / (Math.min(longest || 18, 38) * 7 + 52)));
  }

  // A copy whose long labels, of axes and legends, leave room for the plot in a narrow window.
  function shortened(spec, width) {
    const most = Math.max(LEAST_LABEL, LABEL_SHARE * width);
    const walk = (node, key) => {
      if (key === "datasets" || key === "values" || node === null || typeof node !== "object")
        return key === "labelLimit" ? Math.min(node, most) : node;
      if (Array.isArray(node)) return node.map((item) => walk(item));
      return Object.fromEntries(Object.entries(node).map(([name, item]) => [name, walk(item, name)]));
    };
    return walk(spec);
  }

  // -- drawing -------------------------------------------------------------------------------

  const views = new Map();

  // Tables that several charts read: stored by column, drawn from by row.
  const tables = new Map();
  function rows(name) {
    if (!tables.has(name)) {
      const columns = data.datasets[name];
      const names = Object.keys(columns);
      const count = names.length ? columns[names[0]].length : 0;
      const row = (_, i) => Object.fromEntries(names.map((column) => [column, columns[column][i]]));
      tables.set(name, Array.from({ length: count }, row));
    }
    return tables.get(name);
  }

  function complete({ spec, uses, controls: keys }) {
    const shared = Object.fromEntries(uses.map((name) => [name, rows(name)]));
    return controls.applied({ ...spec, datasets: { ...spec.datasets, ...shared } }, keys);
  }

  async function embed(box, spec, width) {
    if (views.has(box)) views.get(box).finalize();
    const several = group(spec) || "facet" in spec;
    const titles = { titleLimit: panelWidth(spec, width) };
    const legend = {
      columns: legendColumns(spec, width),
      labelLimit: Math.min(data.config.legend.labelLimit, Math.max(LEAST_LABEL, LABEL_SHARE * width)),
      gradientLength: Math.min(data.config.legend.gradientLength, Math.max(120, width - 130)),
      ...(several ? { offset: 12 } : {}), // a group's axis titles already lie within its bounds
    };
    const config = {
      ...data.config,
      legend: { ...data.config.legend, ...legend },
      axisX: { ...data.config.axisX, ...titles },
      axisY: { ...data.config.axisY, ...titles },
    };
    const options = {
      config, renderer: "svg", actions: false, ast: true, defaultStyle: false,
      mode: "vega-lite", tooltip: { disableDefaultStyle: true },
    };
    const result = await vegaEmbed(box, shortened(spec, width), options);
    views.set(box, result);
    // marks without words (the frame of a brush) are nothing to read out
    for (const mark of box.querySelectorAll("svg [role]:not([aria-label])")) mark.setAttribute("aria-hidden", "true");
    const svg = box.querySelector("svg");
    return svg ? parseFloat(svg.getAttribute("width")) : width;
  }

  async function draw(box) {
    const figure = data.figures[box.dataset.figure];
    const spec = complete(figure);
    const width = box.clientWidth;
    try {
      let slack = 0;
      let drawn = await embed(box, isFixed(spec) ? spec : fit(spec, width, slack), width);
      // Axis labels have any width: draw, measure what they took, and draw again to the pixel.
      for (let again = 0; again < 2 && !isFixed(spec) && !isContainer(spec) && Math.abs(drawn - width) > 2; again++) {
        slack += drawn - width + 1;
        drawn = await embed(box, fit(spec, width, slack), width);
      }
      const { view } = views.get(box);
      controls.bind(box.dataset.figure, view, figure.controls);
      // From here on controls change what is drawn: that nothing is left of it is no mistake.
      if (figure.controls.length) view.logLevel(ERRORS);
    } catch (error) {
      const note = document.createElement("p");
      note.className = "failed";
      note.textContent = "This chart could not be drawn; its numbers are below.";
      box.replaceChildren(note);
      root.dataset.failed = "true";
      console.error(error);
    }
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    box.dataset.width = width;
  }

  async function drawAll() {
    root.dataset.charts = "drawing";
    for (const box of document.querySelectorAll(".chart"))
      if (box.clientWidth && box.dataset.width !== String(box.clientWidth)) await draw(box);
    root.dataset.charts = "ready";
  }

  let waiting;
  const redraw = () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  };

  // -- buttons -------------------------------------------------------------------------------

  function show(button, action) {
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", action);
  }

  function download(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = `${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const quoted = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  function csv(name) {
    const names = Object.keys(data.datasets[name]);
    const lines = rows(name).map((row) => names.map((column) => quoted(row[column])).join(","));
    return [names.map(quoted).join(","), ...lines, ""].join("\n");
  }

  async function copy(button, element) {
    try {
      await navigator.clipboard.writeText(element.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(element); // no clipboard here: select it for the reader
    }
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.scheme || (dark.matches ? "dark" : "light")) === "dark";
  const scheme = document.getElementById("scheme");
  const label = () => (scheme.textContent = isDark() ? "Light mode" : "Dark mode");
  show(scheme, () => {
    root.dataset.scheme = isDark() ? "light" : "dark";
    label();
  });
  label();
  dark.addEventListener("change", label);

  for (const button of document.querySelectorAll("[data-csv]"))
    show(button, () => download(button.dataset.csv, data.figures[button.dataset.csv].csv));
  for (const button of document.querySelectorAll("[data-dataset]"))
    show(button, () => download(button.dataset.dataset, csv(button.dataset.dataset)));
  const command = document.getElementById("copy");
  show(command, () => copy(command, document.getElementById("command")));

  // -- where the reader is -------------------------------------------------------------------

  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const inSight = new Set();
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) inSight[entry.isIntersecting ? "add" : "delete"](entry.target.id);
      const current = [...links.keys()].find((id) => inSight.has(id));
      for (const [id, link] of links)
        if (id === current) link.setAttribute("aria-current", "true");
        else if (current) link.removeAttribute("aria-current");
    },
    { rootMargin: "-15% 0px -65% 0px" },
  );
  for (const id of links.keys()) if (document.getElementById(id)) watch.observe(document.getElementById(id));

  const first = document.querySelector(".chart");
  if (first) new ResizeObserver(redraw).observe(document.getElementById("report"));
  drawAll().then(() => {
    const named = controls.anchor() && document.getElementById(controls.anchor());
    if (named) named.scrollIntoView(); // the browser does not look for an anchor beside controls
  });
})();
