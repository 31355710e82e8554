"use strict";
// The matrix: a row for each level, extension and form, a column for each report that the filters admit.

/** The keys that the filters admit. */
function shownKeys(state) {
  const words = state.op.toLowerCase().split(/\s+/).filter(Boolean);
  return KEYS.filter((key) => {
    const text = `${key.form} ${key.dtype} ${key.extension}`.toLowerCase();
    return words.every((word) => text.includes(word))
      && (state.dtype === "" || key.dtype === state.dtype)
      && (state.extension === "" || (key.extension || "base") === state.extension);
  });
}

/** Rows of letters by form, or by form and dtype: {name, dtype, form, keys, letters}. */
function rowsOf(state, reports) {
  const groups = new Map();
  for (const key of shownKeys(state)) {
    const name = state.rows === "dtypes" ? `${key.form} ${key.dtype}` : key.form;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(key);
  }
  const rows = [];
  for (const keys of groups.values()) {
    const squares = reports.map((report) => keys.map((key) => report.squares[key.at]));
    const row = { keys, form: keys[0].form, dtype: state.rows === "dtypes" ? keys[0].dtype : "", squares };
    if (squares.some((letters) => letters.some((letter) => letter !== UNDECLARED)) && isWanted(row, state.only)) rows.push(row);
  }
  return rows;
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
  count.textContent = empty || `${rows.length} ${state.rows === "dtypes" ? "forms with a dtype" : "forms"} on ${reports.length} backend${reports.length === 1 ? "" : "s"}`;
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
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, state.rows === "dtypes" ? "form, dtype" : "form"), ...heads)), body);
}

/** The rows of levels and strict outputs; they stand above the forms as long as nothing narrows the forms. */
function summaryRows(reports, state) {
  if (state.op || state.dtype || state.extension || state.only) return [];
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
  const head = make("th", { scope: "row" }, row.form);
  if (row.dtype) head.append(" ", make("span", { class: "soft" }, row.dtype));
  if (row.keys[0].extension) head.append(" ", make("span", { class: "ext" }, row.keys[0].extension));
  return make("tr", {}, head, ...row.squares.map((letters, n) => formCell(row, reports[n], letters)));
}

const emptyCell = () => make("td", { class: "cell none" }, make("span", { tabindex: -1, "aria-label": "not declared" }));

function formCell(row, report, letters) {
  const declared = letters.filter((letter) => letter !== UNDECLARED);
  if (!declared.length) return emptyCell();
  const { name } = VERDICTS.get(worstOf(declared));
  const like = declared.filter((letter) => VERDICTS.get(letter).name === name).length;
  const number = name === "pass" || like === declared.length ? `${declared.length}` : `${like}/${declared.length}`;
  const what = `${row.form}${row.dtype ? ` ${row.dtype}` : ""} on ${report.backend}: ${name}`;
  const link = make("a", {
    href: addressOf(report, `form-${row.form}`), tabindex: -1, title: what,
    "aria-label": row.dtype ? what : `${what}, ${number} dtypes`, "data-form": row.form, "data-at": REPORTS.indexOf(report),
  }, markOf(name), row.dtype ? "" : make("span", { class: "number" }, number));
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
