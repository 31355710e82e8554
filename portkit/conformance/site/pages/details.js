"use strict";
// The numbers behind a square: verdict, cases and error of each dtype, and the failures of the form.

const pending = new Map();

/** Load the numbers of a report: a script beside its page, which a page from the file system may load. */
function loadDetails(report) {
  if (report.page in SITE_DETAILS) return Promise.resolve(SITE_DETAILS[report.page]);
  if (!pending.has(report.page)) {
    pending.set(report.page, new Promise((resolve, reject) => {
      const script = make("script", { src: report.page.replace(/index\.html$/, "details.js") });
      script.addEventListener("load", () => resolve(SITE_DETAILS[report.page]));
      script.addEventListener("error", () => {
        pending.delete(report.page);
        reject(new Error(`cannot load the numbers of ${titleOf(report)}`));
      });
      document.head.append(script);
    }));
  }
  return pending.get(report.page);
}

/** An error as a share of its bound, in words. */
function shareText(error) {
  if (error < 0) return "∞";
  if (error === 0) return "exact";
  return error < 1000 ? error.toPrecision(3) : error.toExponential(1);
}

function errorBar(error) {
  const part = error < 0 ? 1 : Math.min(1, error);
  return draw("svg", { class: `bar-of-error${error < 0 || error > 1 ? " over" : ""}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: "part", width: 100 * part, height: 8 }));
}

/** Open the dialog of a form on a report. */
async function showDetails(report, form) {
  const dialog = document.getElementById("details");
  const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("h2", { id: "details-title" }, `${form} on ${titleOf(report)}`), close,
    make("p", { class: "soft" }, `${report.device}, ${report.evidence}, ${report.date}`));
  const content = make("div", { class: "content" }, make("p", { class: "soft" }, "Loading ..."));
  dialog.append(content, make("p", {}, make("a", { href: addressOf(report, `form-${form}`) }, "The whole report")));
  dialog.showModal();
  try {
    const details = await loadDetails(report);
    content.replaceChildren(dtypeTable(report, form, details), ...failureList(report, form, details));
  } catch (error) {
    content.replaceChildren(make("p", { class: "fail" }, error.message));
  }
}

function dtypeTable(report, form, details) {
  const rows = KEYS.filter((key) => key.form === form && report.squares[key.at] !== UNDECLARED).map((key) => {
    const { name, meaning } = VERDICTS.get(report.squares[key.at]);
    const [cases, elements, error] = details.squares[form][key.dtype];
    return make("tr", {}, make("th", { scope: "row" }, key.dtype || "any"),
      make("td", { class: name, title: meaning }, `${markOf(name)} ${name}`),
      make("td", { class: "n" }, cases.toLocaleString("en")), make("td", { class: "n" }, elements.toLocaleString("en")),
      make("td", { class: error < 0 || error > 1 ? "n fail" : "n" }, error ? errorBar(error) : null, ` ${shareText(error)}`));
  });
  const heads = ["dtype", "verdict", "cases", "elements", "error / bound"];
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head, n) => make("th", { scope: "col", class: n > 1 ? "n" : null }, head)))),
    make("tbody", {}, ...rows)));
}

function failureList(report, form, details) {
  const found = details.failures.map(([id, verdict, of], n) => ({ id, verdict, of, n: n + 1 })).filter(({ of }) => of === form);
  if (!found.length) return [];
  const items = found.slice(0, 50).map(({ id, verdict, n }) =>
    make("li", {}, make("span", { class: `mark ${verdict}` }, verdict), make("a", { href: addressOf(report, `failure-${n}`) }, id)));
  const more = found.length > items.length ? [make("p", { class: "soft" }, `${found.length - items.length} more stand in the report.`)] : [];
  return [make("h3", {}, "Failure cards"), make("ul", { class: "failures" }, ...items), ...more];
}
