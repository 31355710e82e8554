"use strict";
// The page: unpack the bundle, run its cases one after the other, show and keep what comes out.

const page = (() => {
  const element = (id) => document.getElementById(id);
  const encoder = new TextEncoder();
  const state = { bundle: null, digest: "", files: new Map(), archive: null, results: [], outputs: new Map(), unmade: {}, stopped: false, subject: null, started: "", seconds: 0 };

  const hex = (bytes) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");
  const sha256 = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));

  // --- the bundle ---------------------------------------------------------------------------------------------------

  async function unpack() {
    state.archive = Uint8Array.from(atob(PORTKIT_BUNDLE), (c) => c.charCodeAt(0));
    const packed = zip.read(state.archive);
    for (const [name, content] of packed) state.files.set(name, await content());
    const index = state.files.get("bundle.json");
    state.digest = await sha256(index);
    state.bundle = JSON.parse(new TextDecoder().decode(index));
  }

  const file = (path) => state.files.get(path);

  // --- showing ------------------------------------------------------------------------------------------------------

  function cell(row, kind, text) {
    const made = document.createElement("td");
    made.className = kind;
    made.textContent = text;
    row.append(made);
  }

  function show(row, id, verdict, elements, reason) {
    row.replaceChildren();
    row.className = verdict === "not run" ? "waiting" : verdict;
    cell(row, "verdict", verdict);
    cell(row, "id", id);
    cell(row, "number", elements ? elements.toLocaleString("en") : "");
    cell(row, "reason", reason);
  }

  function explained({ reason, mismatch }) {
    if (!mismatch) return reason;
    const { buffer, element: place, actual, accepted } = mismatch;
    return `${reason}; ${buffer}[${place}] is ${actual}, accepted ${accepted}`;
  }

  function listCases() {
    const body = element("cases").tBodies[0];
    body.replaceChildren();
    return state.bundle.cases.map((record) => {
      const row = body.insertRow();
      show(row, record.id, "not run", 0, "");
      return row;
    });
  }

  function tell(text, kind = "") {
    element("status").textContent = text;
    element("status").className = kind;
  }

  function facts(pairs) {
    const list = element("facts");
    list.replaceChildren();
    for (const [name, value] of pairs) {
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      list.append(term, detail);
    }
  }

  function advance(done, total) {
    element("done").style.width = `${(100 * done) / total}%`;
    element("bar").setAttribute("aria-valuemax", String(total));
    element("bar").setAttribute("aria-valuenow", String(done));
  }

  function describeRun() {
    const { bundle, subject } = state;
    facts([
      ["device", subject ? subject.device : "not opened yet"],
      ["evidence", subject ? `${subject.evidence}, as far as the browser tells` : "not known yet"],
      ["suite", `${bundle.suite} (${bundle.suite_digest.slice(0, 12)}), spec ${bundle.spec} (${bundle.spec_digest.slice(0, 12)})`],
      ["cases", `${bundle.cases.length} of profile ${bundle.profile}, tier ${bundle.tier}; ${(bundle.left_out || []).length} more talk to a running device, and are not part of this page`],
      ["limits", "results are judged as those of a device that may flush subnormals"],
    ]);
  }

  // --- running ------------------------------------------------------------------------------------------------------

  async function runCase(device, record) {
    const source = new TextDecoder().decode(file(record.source.path));
    const befores = record.launches.map((launch) => file(launch.before.path));
    const afters = [];
    try {
      for (const before of befores) afters.push(await gpu.run(device, record, source, before));
    } catch (error) {
      if (!(error instanceof gpu.Unmade)) throw error;
      state.unmade[record.id] = { verdict: error.verdict, reason: error.message.slice(0, 400) };
      return { id: record.id, verdict: error.verdict, reason: `as stated with the outputs: ${error.message.slice(0, 400)}`, elements: 0, wrong: 0, mismatch: null, output_digests: [] };
    }
    afters.forEach((after, k) => state.outputs.set(record.launches[k].after, after));
    const found = judge.all(record, befores, afters, file);
    return { id: record.id, verdict: found.verdict, reason: found.reason, elements: found.elements, wrong: found.wrong, mismatch: found.mismatch, output_digests: await Promise.all(afters.map(sha256)) };
  }

  async function openDevice() {
    const { cases } = state.bundle;
    const device = await gpu.open(Math.max(...cases.map((c) => c.buffers.length)), Math.max(...cases.map((c) => c.image_bytes)));
    state.subject = gpu.describe(device.adapter);
    describeRun();
    return device;
  }

  function begin() {
    Object.assign(state, { results: [], outputs: new Map(), unmade: {}, stopped: false, started: new Date().toISOString() });
    element("run").disabled = true;
    element("stop").disabled = false;
    element("saving").hidden = element("how").hidden = true;
  }

  async function run() {
    begin();
    const rows = listCases();
    const { cases } = state.bundle;
    const began = performance.now();
    try {
      let device = await openDevice();
      for (let k = 0; k < cases.length && !state.stopped; k++) {
        tell(`running ${cases[k].id}`);
        const found = await runCase(device, cases[k]);
        state.results.push(found);
        show(rows[k], found.id, found.verdict, found.elements, explained(found));
        advance(k + 1, cases.length);
        if (found.verdict === "crash" || found.verdict === "timeout") {
          device.device.destroy(); // what hangs must not hold up the others
          device = await openDevice();
        }
      }
    } catch (error) {
      tell(`cannot run here: ${error.message || error}`, "bad");
      return;
    } finally {
      state.seconds = (performance.now() - began) / 1000;
      element("run").disabled = false;
      element("stop").disabled = true;
      element("saving").hidden = element("how").hidden = state.results.length === 0;
    }
    conclude(rows);
  }

  function conclude(rows) {
    element("cases").tBodies[0].prepend(...rows.filter((row) => !["pass", "waiting"].includes(row.className)));
    const passed = state.results.filter((r) => r.verdict === "pass").length;
    const total = state.bundle.cases.length;
    const missing = total - state.results.length;
    const rest = missing ? `, ${missing} not run` : "";
    tell(`${passed} of ${total} launches pass${rest}, in ${state.seconds.toFixed(1)} s`, passed === total ? "good" : "bad");
  }

  // --- keeping ------------------------------------------------------------------------------------------------------

  function report() {
    const { bundle, results } = state;
    const ran = new Set(results.map((r) => r.id));
    return {
      format: "portkit-browser-report",
      version: 1,
      bundle: state.digest,
      portkit: bundle.portkit,
      suite_digest: bundle.suite_digest,
      spec_digest: bundle.spec_digest,
      profile: bundle.profile,
      tier: bundle.tier,
      ...state.subject,
      browser: navigator.userAgent,
      started: state.started,
      seconds: Number(state.seconds.toFixed(3)),
      passed: results.length === bundle.cases.length && results.every((r) => r.verdict === "pass"),
      cases: results,
      not_run: bundle.cases.map((c) => c.id).filter((id) => !ran.has(id)),
      left_out: bundle.left_out || [],
    };
  }

  function outputs() {
    const manifest = {
      format: "portkit-outputs",
      version: 1,
      bundle: state.digest,
      device: state.subject.device.slice(0, 400),
      driver: navigator.userAgent.slice(0, 400),
      evidence: state.subject.evidence,
      unmade: state.unmade,
    };
    return zip.write(new Map([["outputs.json", encoder.encode(JSON.stringify(manifest, null, 1))], ...state.outputs]));
  }

  function save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  async function start() {
    try {
      await unpack();
    } catch (error) {
      element("run").disabled = true;
      tell(`the bundle of this page cannot be read: ${error.message || error}`, "bad");
      return;
    }
    listCases();
    describeRun();
    element("run").addEventListener("click", run);
    element("stop").addEventListener("click", () => { state.stopped = true; });
    element("save-report").addEventListener("click", () => save("portkit-report.json", new Blob([JSON.stringify(report(), null, 1)], { type: "application/json" })));
    element("save-outputs").addEventListener("click", () => save("portkit-outputs.zip", outputs()));
    element("save-bundle").addEventListener("click", () => save("portkit-bundle.zip", new Blob([state.archive], { type: "application/zip" })));
    tell("ready");
  }

  return { ready: start(), state };
})();
