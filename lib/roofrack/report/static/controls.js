"use strict";
// The sliders and choices of a report: they set parameters of charts, and live in the address.
// Each value is one that was computed; an address with any other is moved to the nearest of them.
const controls = (() => {
  const told = JSON.parse(document.getElementById("data").textContent).controls;
  const byKey = new Map(told.map((control) => [control.key, control]));
  const at = new Map(told.map((control) => [control.key, control.start])); // places in `values`
  const views = new Map(); // of each figure that follows: its view and the keys it knows
  const inputs = [...document.querySelectorAll("[data-control]")];
  const value = (key) => byKey.get(key).values[at.get(key)];

  // -- the address ---------------------------------------------------------------------------

  // The fragment holds an anchor, controls that were moved, or both: #findings&batch=64.
  const parts = () => location.hash.slice(1).split("&").filter(Boolean);
  const anchor = () => parts().find((part) => !part.includes("=")) || "";

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return "";
    }
  }

  function place(control, text) {
    const { values } = control;
    if (typeof values[0] === "string") return values.indexOf(text);
    const wanted = text.trim() === "" ? NaN : Number(text);
    if (!Number.isFinite(wanted)) return -1;
    const far = (v) => Math.abs(v - wanted);
    return values.reduce((best, v, i) => (far(v) < far(values[best]) ? i : best), 0);
  }

  function read() {
    for (const control of told) at.set(control.key, control.start);
    for (const part of parts()) {
      const cut = part.indexOf("=");
      const control = cut > 0 ? byKey.get(decoded(part.slice(0, cut))) : undefined;
      if (!control) continue;
      const found = place(control, decoded(part.slice(cut + 1)));
      if (found >= 0) at.set(control.key, found);
    }
  }

  function write() {
    const moved = told.filter((control) => at.get(control.key) !== control.start);
    const state = moved.map((c) => `${encodeURIComponent(c.key)}=${encodeURIComponent(value(c.key))}`);
    const hash = [anchor(), ...state].filter(Boolean).join("&");
    history.replaceState(null, "", `#${hash}`);
  }

  // -- what is moved -------------------------------------------------------------------------

  function show() {
    for (const input of inputs) {
      const key = input.dataset.control;
      const text = byKey.get(key).texts[at.get(key)];
      input.value = at.get(key);
      if (input.type === "range") {
        input.setAttribute("aria-valuetext", text);
        input.nextElementSibling.value = text;
      }
    }
    for (const button of document.querySelectorAll("[data-reset]"))
      button.disabled = told.every((control) => at.get(control.key) === control.start);
  }

  async function follow(view, keys) {
    for (const key of keys) view.signal(`ctl_${key}`, value(key));
    await view.runAsync();
  }

  async function update() {
    show();
    document.documentElement.dataset.controls = "moving";
    await Promise.all([...views.values()].map(({ view, keys }) => follow(view, keys)));
    document.documentElement.dataset.controls = "still";
  }

  function choose(key, index) {
    if (at.get(key) === index) return;
    at.set(key, index);
    write();
    update();
  }

  for (const input of inputs)
    input.addEventListener("input", () => choose(input.dataset.control, Number(input.value)));
  for (const button of document.querySelectorAll("[data-reset]"))
    button.addEventListener("click", () => {
      for (const control of told) at.set(control.key, control.start);
      write();
      update();
    });
  for (const box of document.querySelectorAll(".controls")) box.hidden = false;
  addEventListener("hashchange", () => {
    // a link within the page names an anchor alone: what was moved stays moved
    if (parts().some((part) => part.includes("="))) read();
    else write();
    update();
  });
  read();
  show();

  // A mark names what a choice may choose: a click chooses it, a second click lets it go.
  function pick(item, keys) {
    for (const key of keys) {
      const { column, values } = byKey.get(key);
      const row = item && item.datum;
      if (!column || !row || !(column in row)) continue;
      const index = values.indexOf(row[column]);
      const all = values.indexOf("all");
      if (index >= 0) choose(key, index === at.get(key) && all >= 0 ? all : index);
    }
  }

  return {
    anchor,
    // A specification with parameters as they stand now.
    applied(spec, keys) {
      if (!keys.length) return spec;
      const now = new Map(keys.map((key) => [`ctl_${key}`, value(key)]));
      const params = spec.params.map((p) => (now.has(p.name) ? { ...p, value: now.get(p.name) } : p));
      return { ...spec, params };
    },
    // Let a drawn chart follow, until it is drawn anew.
    bind(figure, view, keys) {
      if (!keys.length) return;
      views.set(figure, { view, keys });
      view.addEventListener("click", (event, item) => pick(item, keys));
    },
  };
})();
