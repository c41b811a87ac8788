// ---- Downloads: the window as PNG, the mesh as GLB (glTF 2.0, section 4).

function download(suffix, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${scene.title.replace(/\.\w+$/, "")}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const encode = (canvas, type) => new Promise(resolve => canvas.toBlob(resolve, type, 0.92));

// The window as it is, on a transparent ground.
function takePicture() {
  draw(performance.now());
  const canvas = document.createElement("canvas"), ratio = stage.width / stage.clientWidth, context = canvas.getContext("2d");
  Object.assign(canvas, { width: stage.width, height: stage.height });
  if (matte.hidden) context.drawImage(stage, 0, 0);
  for (const [image, share] of [[matte, matte.hidden ? 0 : 1], [photo, state.compare / 100]]) {
    context.save();
    context.beginPath();
    context.rect(0, 0, share * canvas.width, canvas.height);
    context.clip();
    const [left, top, width] = ["left", "top", "width"].map(name => parseFloat(image.style[name]) * ratio);
    context.drawImage(image, left, top, width, width);
    context.restore();
  }
  return encode(canvas, "image/png");
}

// The mesh's texture as the layer shows it, continued beyond the object.
function drawTexture() {
  const size = Math.min(scene.texture_camera[2], gl.getParameter(gl.MAX_TEXTURE_SIZE)), steps = [-1, 0, 1].map(step => 6 * step / size);
  Object.assign(stage, { width: size, height: size });
  gl.viewport(0, 0, size, size);
  gl.uniform1i(uniform("unwrapped"), 1);
  gl.uniform1f(uniform("fade"), 1);
  gl.disable(gl.DEPTH_TEST);
  for (const [right, up] of [...steps.flatMap(right => steps.map(up => [right, up])), [0, 0]]) {
    gl.uniform2f(uniform("bleed"), right, up);
    drawMesh();
  }
  gl.enable(gl.DEPTH_TEST);
  const texture = encode(stage, "image/jpeg");
  redraw();
  return texture;
}

async function makeGlb() {
  const [focal, centre, size, pivot] = scene.texture_camera, { position, mesh_in, faces } = mesh, count = position.length / 3;
  const places = Float32Array.from({ length: 2 * count }, (_, k) => {
    const [x, y, z] = position.subarray(3 * (k >> 1), 3 * (k >> 1) + 3);
    return (focal * (k % 2 ? -y : x) / (pivot - z) + centre + 0.5) / size;
  });
  const texture = new Uint8Array(await (await drawTexture()).arrayBuffer());
  const parts = [position, mesh_in, places, faces, texture], offsets = [];
  let length = 0;
  for (const part of parts) { offsets.push(length); length += part.byteLength + 3 & ~3; }
  const accessor = (bufferView, type, componentType, items, more) => ({ bufferView, type, componentType, count: items, ...more });
  const tree = {
    asset: { version: "2.0", generator: "g2s" }, extensionsUsed: ["KHR_materials_unlit"], scene: 0, scenes: [{ nodes: [0] }],
    nodes: [{ mesh: 0 }],
    meshes: [{ primitives: [{ attributes: { POSITION: 0, NORMAL: 1, TEXCOORD_0: 2 }, indices: 3, material: 0 }] }],
    materials: [{ doubleSided: true, pbrMetallicRoughness: { baseColorTexture: { index: 0 }, metallicFactor: 0 },
      extensions: { KHR_materials_unlit: {} } }],
    textures: [{ source: 0 }], images: [{ bufferView: 4, mimeType: "image/jpeg" }],
    accessors: [accessor(0, "VEC3", gl.FLOAT, count, { min: scene.box[0], max: scene.box[1] }), accessor(1, "VEC3", gl.FLOAT, count),
      accessor(2, "VEC2", gl.FLOAT, count), accessor(3, "SCALAR", gl.UNSIGNED_INT, faces.length)],
    bufferViews: parts.map((part, k) => ({ buffer: 0, byteOffset: offsets[k], byteLength: part.byteLength })),
    buffers: [{ byteLength: length }],
  };
  const text = new TextEncoder().encode(JSON.stringify(tree)), textLength = text.length + 3 & ~3;
  const file = new Uint8Array(28 + textLength + length).fill(32, 20, 20 + textLength), header = new DataView(file.buffer);
  [0x46546C67, 2, file.length, textLength, 0x4E4F534A].forEach((value, k) => header.setUint32(4 * k, value, true));
  file.set(text, 20);
  [length, 0x004E4942].forEach((value, k) => header.setUint32(20 + textLength + 4 * k, value, true));
  parts.forEach((part, k) => file.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), 28 + textLength + offsets[k]));
  return new Blob([file], { type: "model/gltf-binary" });
}
