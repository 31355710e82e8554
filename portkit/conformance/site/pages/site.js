"use strict";
// The page: its filters, views and keys.
{
  const filters = document.getElementById("filters");
  const pair = document.getElementById("pair");
  let state = readState();

  const fill = (form, name, values) => {
    const select = form.elements[name];
    select.append(...values.map((value) => make("option", { value }, value)));
    select.closest("label").hidden = values.length < 2;
  };
  const distinct = (name) => [...new Set(REPORTS.map((report) => report[name]))].sort();

  const prepare = () => {
    for (const name of ["evidence", "profile", "spec", "suite"]) fill(filters, name, distinct(name));
    fill(filters, "dtype", SITE_DATA.dtypes);
    fill(filters, "extension", [...new Set(KEYS.map((key) => key.extension))]);
    for (const name of ["a", "b"]) {
      pair.elements[name].append(...REPORTS.map((report, n) => make("option", { value: n }, `${titleOf(report)}, ${report.date}`)));
    }
    const legend = document.getElementById("legend");
    const used = new Set(REPORTS.flatMap((report) => [...report.squares]));
    for (const [letter, { name, meaning }] of VERDICTS) {
      if (used.has(letter)) legend.append(make("span", { class: "key", title: meaning }, make("span", { class: `swatch cell ${name}` }, markOf(name)), ` ${name} `));
    }
    legend.append("The number counts dtypes, in wider rows forms with a dtype; empty: not declared. Choose a square for its numbers.");
    legend.hidden = false;
    filters.hidden = false;
  };

  const showHistory = () => {
    for (const row of document.querySelectorAll("#history [data-report]")) row.hidden = !admits(REPORTS[Number(row.dataset.report)], state);
  };

  const RENDER = { overview: showMatrix, compare: showComparison, history: showHistory };
  const HIDDEN = { overview: [], compare: FILTERS, history: ["op", "dtype", "extension", "rows", "only"] };

  const show = () => {
    if (state.view === "compare") {
      state.a ??= 0;
      state.b ??= Math.min(REPORTS.length - 1, state.a === 0 ? 1 : 0);
      for (const name of ["a", "b"]) pair.elements[name].value = String(state[name]);
    }
    for (const name of FILTERS) {
      const input = filters.elements[name];
      if (input.value !== state[name]) input.value = state[name];
      if (input.value !== state[name]) state[name] = ""; // an address may name what this registry has not
      const single = input.tagName === "SELECT" && input.options.length < 3 && !["rows"].includes(name);
      input.closest("label").hidden = HIDDEN[state.view].includes(name) || single;
    }
    filters.hidden = state.view === "compare";
    for (const section of document.querySelectorAll("section[data-view]")) section.hidden = section.dataset.view !== state.view;
    for (const link of document.querySelectorAll("nav [data-view]")) {
      if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    RENDER[state.view](state);
  };

  const change = (changes) => {
    state = { ...state, ...changes };
    writeState(state);
    show();
  };

  filters.addEventListener("input", () => change(Object.fromEntries(FILTERS.map((name) => [name, filters.elements[name].value]))));
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", (event) => {
    event.preventDefault();
    change(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  });
  pair.addEventListener("input", () => change({ a: Number(pair.elements.a.value), b: Number(pair.elements.b.value) }));
  document.getElementById("swap").addEventListener("click", () => change({ a: state.b, b: state.a }));
  window.addEventListener("hashchange", () => {
    if (location.hash === "#main") return;
    const { view } = state;
    state = readState();
    show();
    if (state.view !== view) window.scrollTo(0, 0);
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-form]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    showDetails(REPORTS[Number(link.dataset.at)], link.dataset.form);
  });
  document.getElementById("details").addEventListener("click", (event) => {
    if (event.target.id === "details") event.target.close(); // beside the dialog
  });

  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input, select, dialog");
    if (event.key === "/" && !field && state.view !== "compare") {
      event.preventDefault();
      (filters.elements.op.closest("label").hidden ? filters.elements.device : filters.elements.op).focus();
    } else if (event.key === "Escape" && event.target.type === "search") {
      event.preventDefault();
      change({ [event.target.name]: "" });
    }
  });

  prepare();
  show();
}
