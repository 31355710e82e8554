"use strict";
// The matrix: a row for each level, extension and form, a column for each report that the filters admit.

/** The keys that the filters admit. */
function shownKeys(state) {
  const words = state.op.toLowerCase().split(/\s+/).filter(Boolean);
  return KEYS.filter((key) => {
    const text = `${key.form} ${key.dtype} ${key.extension}`.toLowerCase();
    return words.every((word) => text.includes(word))
      && (state.dtype === "" || key.dtype === state.dtype)
      && (state.extension === "" || key.extension === state.extension);
  });
}

/** What a row is, by the choice of rows: its name, and what its keys have in common. */
const ROWS = {
  "": { what: "forms", name: (key) => key.form },
  squares: { what: "forms with a dtype", name: (key) => `${key.form} ${key.dtype}` },
  operations: { what: "operations", name: (key) => key.operation },
  dtypes: { what: "dtypes", name: (key) => key.dtype },
  extensions: { what: "extensions", name: (key) => key.extension },
};

/** Rows of letters: {name, keys, squares}, the squares a list of letters for each report. */
function rowsOf(state, reports) {
  const groups = new Map();
  const { name } = ROWS[state.rows];
  for (const key of shownKeys(state)) {
    if (!groups.has(name(key))) groups.set(name(key), []);
    groups.get(name(key)).push(key);
  }
  const titles = state.rows === "dtypes" ? SITE_DATA.dtypes.filter((dtype) => groups.has(dtype)) : [...groups.keys()];
  const rows = [];
  for (const title of titles) {
    const keys = groups.get(title);
    const squares = reports.map((report) => keys.map((key) => report.squares[key.at]));
    const row = { name: title, keys, squares, ...partsOf(state.rows, keys[0]) };
    if (squares.some((letters) => letters.some((letter) => letter !== UNDECLARED)) && isWanted(row, state.only)) rows.push(row);
  }
  return rows;
}

/** What a row of forms says besides its name; a row of anything else leads to no single form. */
function partsOf(rows, key) {
  if (rows !== "" && rows !== "squares") return { form: "", dtype: "", extension: "" };
  return { form: key.form, dtype: rows === "squares" ? key.dtype : "", extension: key.extension === "base" ? "" : key.extension };
}

function isWanted(row, only) {
  if (only === "failures") return row.squares.some((letters) => letters.some(isBad));
  if (only === "differences") return new Set(row.squares.map((letters) => letters.join(""))).size > 1;
  return true;
}

/** Show the matrix in its place, and say how many rows it has. */
function showMatrix(state) {
  const reports = shownReports(state);
  const rows = rowsOf(state, reports);
  const place = document.getElementById("matrix");
  const count = document.getElementById("count");
  for (const card of document.querySelectorAll("#cards [data-report]")) {
    card.hidden = !reports.includes(REPORTS[Number(card.dataset.report)]);
  }
  const empty = reports.length === 0 ? "No report matches these filters." : rows.length === 0 ? "No row matches these filters." : "";
  count.textContent = empty || `${rows.length} ${ROWS[state.rows].what} on ${reports.length} backend${reports.length === 1 ? "" : "s"}`;
  place.hidden = empty !== "";
  place.replaceChildren(...(empty ? [] : [tableOf(reports, rows, state)]));
  if (!empty) walkCells(place.firstElementChild);
}

function tableOf(reports, rows, state) {
  const heads = reports.map((report) =>
    make("th", { scope: "col", class: "c" },
      make("a", { href: report.page, tabindex: -1 }, report.backend),
      make("span", { class: "sub" }, report.version),
      report.draft ? make("span", { class: "sub flaky" }, "draft") : null));
  const body = make("tbody");
  body.append(...summaryRows(reports, state), ...rows.map((row) => formRow(row, reports)));
  return make("table", { role: "grid", "aria-labelledby": "matrix-title" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ROWS[state.rows].what), ...heads)), body);
}

/** The rows of levels and strict outputs; they stand above the forms as long as nothing narrows the forms. */
function summaryRows(reports, state) {
  if (state.op || state.dtype || state.extension || state.only || state.rows) return [];
  const shown = SITE_DATA.levels.filter((level) => reports.some((report) => level in report.levels));
  const rows = shown.map((level) => countRow(`level ${level}`, "levels", reports, (report) => report.levels[level]));
  if (reports.some((report) => report.strict[1])) {
    rows.push(countRow("strict outputs", "strict", reports, (report) => (report.strict[1] ? report.strict : undefined)));
  }
  return rows;
}

function countRow(name, anchor, reports, countsOf) {
  const cells = reports.map((report) => {
    const counts = countsOf(report);
    if (!counts) return emptyCell();
    const [part, whole] = counts;
    const link = make("a", { href: addressOf(report, anchor), tabindex: -1, "aria-label": `${name} on ${report.backend}: ${part} of ${whole}` },
      part === whole ? `✓ ${part.toLocaleString("en")}` : `${part.toLocaleString("en")} / ${whole.toLocaleString("en")}`);
    return make("td", { class: `cell ${part === whole ? "pass" : "fail"}` }, link);
  });
  return make("tr", { class: "summary" }, make("th", { scope: "row" }, name), ...cells);
}

function formRow(row, reports) {
  const head = make("th", { scope: "row" }, row.form || row.name || "any");
  if (row.dtype) head.append(" ", make("span", { class: "soft" }, row.dtype));
  if (row.extension) head.append(" ", make("span", { class: "ext" }, row.extension));
  return make("tr", {}, head, ...row.squares.map((letters, n) => formCell(row, reports[n], letters)));
}

const emptyCell = () => make("td", { class: "cell none" }, make("span", { tabindex: -1, "aria-label": "not declared" }));

function formCell(row, report, letters) {
  const declared = letters.filter((letter) => letter !== UNDECLARED);
  if (!declared.length) return emptyCell();
  const { name } = VERDICTS.get(worstOf(declared));
  const like = declared.filter((letter) => VERDICTS.get(letter).name === name).length;
  const number = name === "pass" || like === declared.length ? `${declared.length}` : `${like}/${declared.length}`;
  const what = `${row.name} on ${report.backend}: ${name}`;
  const place = row.form ? { href: addressOf(report, `form-${row.form}`), "data-form": row.form, "data-at": REPORTS.indexOf(report) } : { href: addressOf(report, "operations") };
  const label = row.dtype ? what : `${what}, ${number} ${row.form ? "dtypes" : "squares"}`;
  const link = make("a", { ...place, tabindex: -1, title: what, "aria-label": label }, markOf(name), row.dtype ? "" : make("span", { class: "number" }, number));
  return make("td", { class: `cell ${name}` }, link);
}

// --- walking by arrow keys: the grid is one stop of the Tab key -----------------------------------------------------

const STEPS = new Map([["ArrowRight", [0, 1]], ["ArrowLeft", [0, -1]], ["ArrowDown", [1, 0]], ["ArrowUp", [-1, 0]], ["PageDown", [12, 0]], ["PageUp", [-12, 0]]]);

function walkCells(table) {
  const grid = [...table.rows].map((row) => [...row.cells].slice(1).map((cell) => cell.firstElementChild));
  const place = new Map(grid.flatMap((row, y) => row.map((target, x) => [target, [y, x]])));
  const enter = (target) => {
    for (const other of table.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
  };
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  enter(grid[0][0]);
  table.addEventListener("focusin", (event) => place.has(event.target) && enter(event.target));
  table.addEventListener("keydown", (event) => {
    const at = place.get(event.target);
    if (!at || event.altKey || event.metaKey) return;
    let [y, x] = at;
    if (STEPS.has(event.key)) {
      const [down, right] = STEPS.get(event.key);
      [y, x] = [clamp(y + down, grid.length - 1), clamp(x + right, grid[0].length - 1)];
    } else if (event.key === "Home") [y, x] = [event.ctrlKey ? 0 : y, 0];
    else if (event.key === "End") [y, x] = [event.ctrlKey ? grid.length - 1 : y, grid[0].length - 1];
    else return;
    event.preventDefault();
    grid[y][x].focus();
  });
}
