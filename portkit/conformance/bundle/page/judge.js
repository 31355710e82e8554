"use strict";
// Judging one launch of a bundle: every byte outside of the written buffers is as before, every element inside is one
// that its acceptance set admits. docs/bundles.md states these rules; portkit's own judge gives the same verdicts.

const judge = (() => {
  const TAIL = 256;
  const ANY_NAN = 1;
  const ANYTHING = 2;
  const BETWEEN = { interval: " to ", choice: " or " };
  const INTEGERS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array };
  const WIDTHS = { bool: 1, i8: 1, u8: 1, i16: 2, u16: 2, i32: 4, u32: 4, i64: 8, u64: 8 };
  // Of a float: bytes, and the largest bit pattern without its sign that is no NaN.
  const FLOATS = {
    f8e4m3fn: [1, 0x7e], f8e5m2: [1, 0x7c], f16: [2, 0x7c00], bf16: [2, 0x7f80], f32: [4, 0x7f800000],
    f64: [8, 0x7ff0000000000000n],
  };

  const bytesOf = (dtype) => (dtype in FLOATS ? FLOATS[dtype][0] : WIDTHS[dtype]);

  function elements(bytes, dtype, offset, size) {
    const width = bytesOf(dtype);
    return new INTEGERS[width](bytes.buffer, bytes.byteOffset + offset, size / width);
  }

  // Functions of bit patterns: is it a NaN, and where is it among the floats, with -0 just before +0?
  function floats(dtype) {
    const [width, largest] = FLOATS[dtype];
    if (width === 8) {
      const sign = 1n << 63n;
      const magnitude = (bits) => bits & (sign - 1n);
      return { isNaN: (bits) => magnitude(bits) > largest, place: (bits) => (bits & sign ? -1n - magnitude(bits) : bits) };
    }
    const sign = 2 ** (8 * width - 1);
    const magnitude = (bits) => (bits >= sign ? bits - sign : bits);
    return { isNaN: (bits) => magnitude(bits) > largest, place: (bits) => (bits >= sign ? -1 - magnitude(bits) : bits) };
  }

  // Returns a function of an element's index and bit pattern: does the acceptance set admit it? `values` are arrays of
  // bit patterns, `flags` bytes or null.
  function admits(dtype, rule, values, flags) {
    const flag = flags ? (k) => flags[k] : () => 0;
    if (rule === "choice") {
      const same = dtype === "bool" ? (a, b) => (a !== 0) === (b !== 0) : (a, b) => a === b;
      return (k, bits) => (flag(k) & ANYTHING) !== 0 || values.some((value) => same(value[k], bits));
    }
    const { isNaN, place } = floats(dtype);
    const lo = values[0];
    const hi = values[values.length - 1];
    return (k, bits) => {
      if (bits === lo[k] || flag(k) & ANYTHING) return true;
      if (isNaN(bits)) return (flag(k) & ANY_NAN) !== 0;
      return !isNaN(lo[k]) && place(lo[k]) <= place(bits) && place(bits) <= place(hi[k]);
    };
  }

  // Returns the first index from which two arrays of bytes differ, -1 if they do not.
  function difference(a, b, from, to) {
    for (let k = from; k < to; k++) if (a[k] !== b[k]) return k;
    return -1;
  }

  // What lies around the buffers, and buffers that are only read, must be as before.
  function outside(record, before, after) {
    const reasons = [];
    let clean = difference(before, after, 0, record.buffers.length ? record.buffers[0].offset : after.length) < 0;
    record.buffers.forEach((buffer, k) => {
      const end = buffer.offset + buffer.size;
      const tail = difference(before, after, end, end + TAIL);
      if (tail >= 0) reasons.push(`wrote past the end of ${buffer.name}: byte ${tail - end} after its ${buffer.size} changed`);
      const input = buffer.access === "read" ? difference(before, after, buffer.offset, end) : -1;
      if (input >= 0) {
        const element = Math.floor((input - buffer.offset) / bytesOf(buffer.dtype));
        reasons.push(`changed the input ${buffer.name} at element ${element}`);
      }
      const next = k + 1 < record.buffers.length ? record.buffers[k + 1].offset : after.length;
      clean = clean && difference(before, after, end + TAIL, next) < 0;
    });
    if (!clean) reasons.push("wrote outside every buffer of the launch");
    return reasons;
  }

  // Returns a function of an element's index: does it still hold the poison that a buffer began with?
  function unwritten(buffer, before, after, poison) {
    const contents = before.subarray(buffer.offset, buffer.offset + buffer.size);
    if (buffer.access !== "write" || contents.some((byte) => byte !== poison)) return () => false;
    const width = bytesOf(buffer.dtype);
    return (k) => {
      const at = buffer.offset + k * width;
      return after.subarray(at, at + width).every((byte) => byte === poison);
    };
  }

  const hex = (bits, dtype) => `0x${bits.toString(16).padStart(2 * bytesOf(dtype), "0")}`;

  // Judges one launch. `file` gives the bytes of a file of the bundle. Returns reasons, counts, the first wrong element,
  // and whether an element that passes may not have been written.
  function launch(record, number, before, after, file) {
    const { expected, poison } = record.launches[number];
    const reasons = outside(record, before, after);
    const found = { wrong: 0, elements: 0, suspicious: false, mismatch: null };
    let first = "";
    for (const set of expected) {
      const buffer = record.buffers.find((b) => b.name === set.buffer);
      const values = set.values.map((f) => elements(file(f.path), buffer.dtype, 0, buffer.size));
      const accepts = admits(buffer.dtype, set.rule, values, set.flags ? file(set.flags.path) : null);
      const holdsPoison = unwritten(buffer, before, after, poison);
      const actual = elements(after, buffer.dtype, buffer.offset, buffer.size);
      found.elements += actual.length;
      for (let k = 0; k < actual.length; k++) {
        found.suspicious = found.suspicious || holdsPoison(k);
        if (accepts(k, actual[k])) continue;
        found.wrong++;
        if (first) continue;
        first = `${buffer.name}[${k}] ${holdsPoison(k) ? "was not written" : "is wrong"}`;
        const accepted = [...new Set(values.map((value) => hex(value[k], buffer.dtype)))].join(BETWEEN[set.rule]);
        found.mismatch = { buffer: buffer.name, element: k, actual: hex(actual[k], buffer.dtype), accepted };
      }
    }
    if (first) reasons.push(`${first}, and with it ${found.wrong} of ${found.elements} elements`);
    return { ...found, verdict: reasons.length ? "fail" : "pass", reason: reasons.join("; ") };
  }

  // Judges a case by the images before and after each launch; the second counts where poison is left after the first.
  function all(record, befores, afters, file) {
    const first = launch(record, 0, befores[0], afters[0], file);
    if (first.verdict === "fail" || !first.suspicious || afters.length === 1) return first;
    const second = launch(record, 1, befores[1], afters[1], file);
    return second.verdict === "fail" ? second : first;
  }

  return { all, admits, elements };
})();
