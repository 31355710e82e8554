"use strict";
// The WebGPU device: one launch of a bundle, from memory image to memory image.
//
// Group 0 binds, as portkit's WGSL has it: at 0 a uniform array of words, of which word 1 is the number of work-groups
// and from word 4 on each argument takes two (a buffer's is 0, then scalars by their bits, then the grid's extents); at
// 1 a number that becomes 1 where a loop was ended before its count; then the buffers in order.

const gpu = (() => {
  const SECONDS = 10;
  const FIRST_BUFFER = 2;

  class Unmade extends Error {
    constructor(verdict, reason) {
      super(reason);
      this.verdict = verdict;
    }
  }

  // Opens the device; throws with what is missing. `buffers` is the most that a kernel has.
  async function open(buffers, imageBytes) {
    if (!navigator.gpu) throw new Error("this browser has no WebGPU, or this page is not served over https");
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new Error("there is no WebGPU adapter on this machine");
    const needed = {
      maxStorageBuffersPerShaderStage: buffers + 1,
      maxBufferSize: imageBytes,
      maxStorageBufferBindingSize: imageBytes,
    };
    for (const [name, least] of Object.entries(needed)) {
      if (adapter.limits[name] < least) throw new Error(`the adapter's ${name} is ${adapter.limits[name]}, ${least} are needed`);
    }
    const device = await adapter.requestDevice({ requiredLimits: needed });
    const state = { device, adapter, lost: "", pipelines: new Map() };
    device.lost.then((info) => { state.lost = info.message || info.reason || "no reason given"; });
    return state;
  }

  // What the adapter says of itself. A fallback adapter is a GPU in software, and no chip.
  function describe(adapter) {
    const info = adapter.info || {};
    const words = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
    const software = info.isFallbackAdapter || adapter.isFallbackAdapter || /swiftshader|llvmpipe|warp|lavapipe/i.test(words.join(" "));
    return { device: words.join(" ") || "not told by the browser", evidence: software ? "third-party-emulator" : "silicon" };
  }

  function arguments_(record) {
    const groups = record.grid.reduce((product, extent) => product * extent, 1);
    const given = [...record.buffers.map(() => 0), ...record.scalars.map((s) => Number(s.bits)), ...record.grid];
    const words = new Uint32Array(4 + Math.ceil((2 * given.length) / 4) * 4);
    words[1] = groups;
    given.forEach((value, k) => { words[4 + 2 * k] = value; });
    return { groups, words };
  }

  function layout(device, buffers) {
    const kinds = ["uniform", ...Array(FIRST_BUFFER - 1 + buffers).fill("storage")];
    return device.createBindGroupLayout({
      entries: kinds.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
    });
  }

  async function compiled(state, record, source) {
    const { device, pipelines } = state;
    const known = pipelines.get(record.source.path);
    if (known) return known;
    const group = layout(device, record.buffers.length);
    const module = device.createShaderModule({ code: source });
    const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === "error");
    if (messages.length) throw new Unmade("fail", `the kernel does not compile: ${messages[0].message}`);
    const pipeline = await device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [group] }),
      compute: { module, entryPoint: "run" },
    });
    const made = { pipeline, group };
    pipelines.set(record.source.path, made);
    return made;
  }

  function bound(record, image, words, cuts) {
    const whole = (buffer) => ({ buffer, offset: 0, size: buffer.size });
    const parts = record.buffers.map((b) => ({ buffer: image, offset: b.offset, size: Math.ceil((b.size + 256) / 4) * 4 }));
    return [whole(words), whole(cuts), ...parts].map((resource, binding) => ({ binding, resource }));
  }

  function filled(device, bytes, usage) {
    const buffer = device.createBuffer({ size: bytes.byteLength, usage: usage | GPUBufferUsage.COPY_DST });
    device.queue.writeBuffer(buffer, 0, bytes);
    return buffer;
  }

  // Runs a launch and returns the image after it.
  async function attempt(state, record, source, before) {
    const { device } = state;
    const { pipeline, group } = await compiled(state, record, source);
    const { groups, words } = arguments_(record);
    const image = filled(device, before, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    const given = filled(device, words, GPUBufferUsage.UNIFORM);
    const cuts = filled(device, new Uint32Array(2), GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    const back = device.createBuffer({ size: image.size + 8, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    if (groups > 0) {
      const rows = Math.ceil(groups / device.limits.maxComputeWorkgroupsPerDimension);
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout: group, entries: bound(record, image, given, cuts) }));
      pass.dispatchWorkgroups(Math.ceil(groups / rows), rows);
      pass.end();
    }
    encoder.copyBufferToBuffer(image, 0, back, 0, image.size);
    encoder.copyBufferToBuffer(cuts, 0, back, image.size, 8);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(GPUMapMode.READ);
    const bytes = new Uint8Array(back.getMappedRange().slice(0));
    for (const buffer of [back, image, given, cuts]) buffer.destroy();
    if (new Uint32Array(bytes.buffer, image.size, 2).some(Boolean)) {
      throw new Unmade("timeout", "the device ended a loop before its count was reached");
    }
    return bytes.slice(0, image.size);
  }

  function deadline() {
    return new Promise((_, refuse) => {
      setTimeout(() => refuse(new Unmade("timeout", `no answer in ${SECONDS} s`)), SECONDS * 1000);
    });
  }

  // The same, with every way to fail told apart; throws `Unmade`.
  async function run(state, record, source, before) {
    const { device } = state;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    try {
      const after = await Promise.race([attempt(state, record, source, before), deadline()]);
      const errors = [await device.popErrorScope(), await device.popErrorScope()].filter(Boolean);
      if (errors.length) throw new Unmade("fail", errors[0].message);
      return after;
    } catch (error) {
      if (state.lost) throw new Unmade("crash", `the device was lost: ${state.lost}`);
      throw error instanceof Unmade ? error : new Unmade("fail", String(error.message || error));
    }
  }

  return { open, describe, run, Unmade };
})();
