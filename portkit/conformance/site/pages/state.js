"use strict";
// What all views share: building elements, the verdicts, and the state of the page, which stands in its address.

/** Make an element; text given as a child or an attribute stays text. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Make an element of a picture. */
function draw(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

const UNDECLARED = "-";
const REPORTS = SITE_DATA.reports;
const VERDICTS = new Map(SITE_DATA.verdicts.map(([letter, name, meaning], severity) => [letter, { name, meaning, severity }]));
const MARKS = new Map([["pass", "✓"], ["unsupported", "n/a"], ["waived", "w"], ["blocked", "·"], ["flaky", "~"]]);
const WRONG = "✗";
const KEYS = SITE_DATA.keys.map(([form, dtype], at) => ({
  at,
  form: SITE_DATA.forms[form][0],
  extension: SITE_DATA.forms[form][1] || "base",
  operation: SITE_DATA.forms[form][2],
  dtype: SITE_DATA.dtypes[dtype],
}));

const markOf = (verdict) => MARKS.get(verdict) ?? WRONG;
const severityOf = (letter) => (letter === UNDECLARED ? -1 : VERDICTS.get(letter).severity);
const isBad = (letter) => letter !== UNDECLARED && !["pass", "unsupported", "waived"].includes(VERDICTS.get(letter).name);

/** The most serious of some letters; none is declared where none is given. */
function worstOf(letters) {
  let worst = UNDECLARED;
  for (const letter of letters) if (severityOf(letter) > severityOf(worst)) worst = letter;
  return worst;
}

const titleOf = (report) => `${report.backend} ${report.version}`;

/** The anchor of a form on a report's page. */
const addressOf = (report, anchor) => `${report.page}#${anchor}`;

// --- state ---------------------------------------------------------------------------------------------------------

const VIEWS = ["overview", "compare", "history"];
const FILTERS = ["op", "device", "evidence", "profile", "spec", "suite", "dtype", "extension", "rows", "only"];

/** Read the state of the page from its address; what is not known there is left out. */
function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { view: VIEWS.includes(given.get("view")) ? given.get("view") : "overview" };
  for (const name of FILTERS) state[name] = given.get(name) ?? "";
  for (const name of ["a", "b"]) {
    const number = given.has(name) ? Number(given.get(name)) : NaN;
    state[name] = Number.isInteger(number) && number >= 0 && number < REPORTS.length ? number : null;
  }
  return state;
}

/** Put the state into the address, without a new entry in the browser's history. */
function writeState(state) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== "" && value !== null && !(name === "view" && value === "overview")) said.set(name, String(value));
  }
  const text = said.toString();
  history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
}

/** The newest report of each backend that the filters admit. */
function shownReports(state) {
  const seen = new Set();
  return REPORTS.filter((report) => {
    if (seen.has(report.backend) || !admits(report, state)) return false;
    seen.add(report.backend);
    return true;
  });
}

/** Whether the filters admit a report. */
function admits(report, state) {
  const text = `${report.backend} ${report.version} ${report.device} ${report.vendor}`.toLowerCase();
  const words = state.device.toLowerCase().split(/\s+/);
  return words.every((word) => text.includes(word))
    && ["evidence", "profile", "spec", "suite"].every((name) => state[name] === "" || report[name] === state[name]);
}
