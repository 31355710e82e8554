"use strict";
// Zip archives: reading those that portkit writes, and writing plain ones.

const zip = (() => {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();

  // Returns a Map from names to functions that give the unpacked bytes.
  function read(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let end = bytes.length - 22;
    while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) throw new Error("not a zip archive");
    const files = new Map();
    let at = view.getUint32(end + 16, true);
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      const method = view.getUint16(at + 10, true);
      const packed = view.getUint32(at + 20, true);
      const size = view.getUint32(at + 24, true);
      const nameLength = view.getUint16(at + 28, true);
      const local = view.getUint32(at + 42, true);
      const name = decoder.decode(bytes.subarray(at + 46, at + 46 + nameLength));
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      files.set(name, () => unpack(bytes.subarray(start, start + packed), method, size));
      at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    }
    return files;
  }

  async function unpack(data, method, size) {
    if (method === 0) return data.slice();
    if (method !== 8) throw new Error(`compression method ${method} is not known`);
    const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const unpacked = new Uint8Array(await new Response(stream).arrayBuffer());
    if (unpacked.length !== size) throw new Error("a file of the archive has not the length that it should have");
    return unpacked;
  }

  const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
  });

  function crc32(bytes) {
    let c = 0xffffffff;
    for (let k = 0; k < bytes.length; k++) c = CRC[(c ^ bytes[k]) & 255] ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
  }

  // What a file has in its own header and in the directory: versions, flags, time, checksum and sizes.
  function fields(name, content, crc) {
    const part = new DataView(new ArrayBuffer(26));
    part.setUint16(0, 20, true);
    part.setUint16(8, 0x21, true); // 1980-01-01
    part.setUint32(10, crc, true);
    part.setUint32(14, content.length, true);
    part.setUint32(18, content.length, true);
    part.setUint16(22, name.length, true);
    return new Uint8Array(part.buffer);
  }

  function words(...pairs) {
    const part = new DataView(new ArrayBuffer(pairs.reduce((sum, [bytes]) => sum + bytes, 0)));
    let at = 0;
    for (const [bytes, value] of pairs) {
      if (bytes === 2) part.setUint16(at, value, true);
      else part.setUint32(at, value, true);
      at += bytes;
    }
    return new Uint8Array(part.buffer);
  }

  // Takes a Map from names to bytes; returns a Blob whose files are stored as they are.
  function write(files) {
    const parts = [];
    const directory = [];
    let at = 0;
    for (const [text, content] of files) {
      const name = encoder.encode(text);
      const common = fields(name, content, crc32(content));
      parts.push(words([4, 0x04034b50]), common, name, content);
      directory.push(words([4, 0x02014b50], [2, 0x0314]), common, words([2, 0], [2, 0], [2, 0], [4, 0o100644 * 65536], [4, at]), name);
      at += 4 + common.length + name.length + content.length;
    }
    const size = directory.reduce((sum, part) => sum + part.length, 0);
    const end = words([4, 0x06054b50], [2, 0], [2, 0], [2, files.size], [2, files.size], [4, size], [4, at], [2, 0]);
    return new Blob([...parts, ...directory, end], { type: "application/zip" });
  }

  return { read, write };
})();
