"use strict";
// Two reports side by side: what only one declares, where their verdicts differ, and their errors against each other.

const DIFFERENCES_SHOWN = 400;

/** Show the comparison of the state's two reports. */
function showComparison(state) {
  const [a, b] = [REPORTS[state.a], REPORTS[state.b]];
  const place = document.getElementById("comparison");
  if (a === b) {
    place.replaceChildren(make("p", { class: "note" }, REPORTS.length > 1 ? "Both are the same report; choose another." : "There is only one report."));
    return;
  }
  const differing = KEYS.filter((key) => a.squares[key.at] !== b.squares[key.at]);
  const errors = make("div", {}, make("p", { class: "soft" }, "Loading the errors ..."));
  place.replaceChildren(headTable(a, b), ...caution(a, b), summary(a, b, differing), ...differences(a, b, differing), errors);
  Promise.all([loadDetails(a), loadDetails(b)])
    .then(([x, y]) => errors.replaceChildren(...errorPlot(a, b, x, y)))
    .catch((error) => errors.replaceChildren(make("p", { class: "fail" }, error.message)));
}

function headTable(a, b) {
  const texts = ["device", "vendor", "evidence", "signature", "date", "profile", "spec", "suite"];
  const row = (name, x, y, changed = x !== y) =>
    make("tr", { class: changed ? "changed" : "" }, make("th", { scope: "row" }, name), make("td", { class: "wrap" }, x), make("td", { class: "wrap" }, y));
  const levels = SITE_DATA.levels.filter((level) => level in a.levels || level in b.levels);
  const counted = (counts) => (counts && counts[1] ? `${counts[0].toLocaleString("en")} of ${counts[1].toLocaleString("en")}` : "-");
  const link = (report) => make("th", { scope: "col" }, make("a", { href: report.page }, titleOf(report)), report.draft ? make("span", { class: "flaky" }, " draft") : "");
  const said = (report) => make("span", { class: report.claim }, report.statement);
  return make("div", { class: "scroll" }, make("table", { class: "pairs" },
    make("thead", {}, make("tr", {}, make("td", {}), link(a), link(b))),
    make("tbody", {}, row("statement", said(a), said(b), a.statement !== b.statement), ...texts.map((name) => row(name, a[name], b[name])),
      ...levels.map((level) => row(`level ${level}`, counted(a.levels[level]), counted(b.levels[level]))),
      row("strict outputs", counted(a.strict), counted(b.strict)))));
}

/** A word of caution where the two were not judged by the same suite. */
function caution(a, b) {
  return a.spec === b.spec && a.suite === b.suite ? []
    : [make("p", { class: "note" }, "These two were judged by different versions: their verdicts and errors may differ for that reason alone.")];
}

function summary(a, b, differing) {
  const shared = (key) => a.squares[key.at] !== UNDECLARED && b.squares[key.at] !== UNDECLARED;
  const both = KEYS.filter(shared);
  const better = both.filter((key) => severityOf(b.squares[key.at]) < severityOf(a.squares[key.at])).length;
  const worse = both.filter((key) => severityOf(b.squares[key.at]) > severityOf(a.squares[key.at])).length;
  const only = (x, y) => differing.filter((key) => x.squares[key.at] !== UNDECLARED && y.squares[key.at] === UNDECLARED).length;
  const figures = [[both.length - better - worse, "the same", ""], [better, "better in the second", "pass"], [worse, "worse in the second", "fail"],
    [only(a, b), "only in the first", ""], [only(b, a), "only in the second", ""]];
  return make("ul", { class: "figures" }, ...figures.map(([number, text, name]) =>
    make("li", {}, make("b", { class: number ? name : "soft" }, number.toLocaleString("en")), ` ${text}`)));
}

function differences(a, b, differing) {
  const title = make("h3", {}, "Differences");
  if (!differing.length) return [title, make("p", { class: "soft" }, "Both declare the same forms and dtypes, with the same verdicts.")];
  const cell = (report, key) => {
    const letter = report.squares[key.at];
    if (letter === UNDECLARED) return make("td", { class: "cell none" }, make("span", { class: "soft" }, "not declared"));
    const { name } = VERDICTS.get(letter);
    return make("td", { class: `cell ${name}` }, make("a", { href: addressOf(report, `form-${key.form}`), "data-form": key.form, "data-at": REPORTS.indexOf(report) }, `${markOf(name)} ${name}`));
  };
  const ranked = [...differing].sort((x, y) => weight(a, b, y) - weight(a, b, x) || x.at - y.at);
  const rows = ranked.slice(0, DIFFERENCES_SHOWN).map((key) =>
    make("tr", {}, make("th", { scope: "row" }, key.form, " ", make("span", { class: "soft" }, key.dtype)), cell(a, key), cell(b, key)));
  const more = ranked.length > rows.length ? [make("p", { class: "soft" }, `${ranked.length - rows.length} more are not shown.`)] : [];
  return [title, make("div", { class: "scroll tall" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "form, dtype"), ...[a, b].map((report) => make("th", { scope: "col", class: "c" }, report.backend, make("span", { class: "sub" }, report.version))))),
    make("tbody", {}, ...rows))), ...more];
}

/** Verdicts that differ come before what only one declares. */
const weight = (a, b, key) => (a.squares[key.at] !== UNDECLARED && b.squares[key.at] !== UNDECLARED ? 1 : 0);

// --- errors against errors ------------------------------------------------------------------------------------------

const SIDE = 420;
const MARGIN = 56;
const EDGE = 26;
const LEAST = -4;

function errorPlot(a, b, x, y) {
  const points = [];
  for (const key of KEYS) {
    const [first, second] = [x, y].map((details) => details.squares[key.form]?.[key.dtype]?.[2]);
    if (first && second) points.push({ key, first, second });
  }
  const title = make("h3", {}, "Errors against each other");
  if (!points.length) return [title, make("p", { class: "soft" }, "No form has an error in both.")];
  const logs = points.flatMap(({ first, second }) => [first, second]).map((error) => (error < 0 ? 2 : Math.log10(error)));
  const high = Math.max(0, Math.min(2, Math.ceil(Math.max(...logs))));
  const low = Math.max(LEAST, Math.min(0, high - 1, Math.floor(Math.min(...logs))));
  const along = (error) => {
    const power = error < 0 ? high : Math.max(low, Math.min(high, Math.log10(error)));
    return ((power - low) / (high - low)) * (SIDE - MARGIN - EDGE);
  };
  const [across, up] = [(error) => MARGIN + along(error), (error) => SIDE - MARGIN - along(error)];
  const parts = [];
  for (let power = low; power <= high; power += 1) {
    const [value, name] = [10 ** power, power === 0 ? "bound" : String(10 ** power)];
    const kind = power === 0 ? "bound" : "grid";
    parts.push(draw("line", { class: kind, x1: across(value), x2: across(value), y1: EDGE, y2: SIDE - MARGIN }),
      draw("line", { class: kind, y1: up(value), y2: up(value), x1: MARGIN, x2: SIDE - EDGE }),
      draw("text", { class: "tick", x: across(value), y: SIDE - MARGIN + 16, "text-anchor": "middle" }, name),
      draw("text", { class: "tick", x: MARGIN - 6, y: up(value) + 4, "text-anchor": "end" }, name));
  }
  parts.push(draw("line", { class: "row", x1: across(10 ** low), y1: up(10 ** low), x2: across(10 ** high), y2: up(10 ** high) }),
    ...points.map(({ key, first, second }) => draw("circle", { class: first < 0 || second < 0 || first > 1 || second > 1 ? "dot over" : "dot", cx: across(first), cy: up(second), r: 4 },
      draw("title", {}, `${key.form} ${key.dtype}: ${shareText(first)} and ${shareText(second)} of the bound`))),
    draw("text", { class: "name", x: (SIDE + MARGIN) / 2, y: SIDE - 10, "text-anchor": "middle" }, titleOf(a).slice(0, 60)),
    draw("text", { class: "name", x: 14, y: SIDE / 2 - 20, "text-anchor": "middle", transform: `rotate(-90 14 ${SIDE / 2 - 20})` }, titleOf(b).slice(0, 60)));
  return [title, make("p", { class: "soft" }, "Each dot is a form with one dtype: the largest error of the first report across, of the second upwards, each as a share of its bound. Below the diagonal the second is closer."),
    draw("svg", { class: "plot square", viewBox: `0 0 ${SIDE} ${SIDE}`, width: SIDE, height: SIDE, role: "img", "aria-label": `Errors of ${points.length} forms with a dtype` }, ...parts)];
}
