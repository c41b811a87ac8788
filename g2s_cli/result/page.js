"use strict";
// The page of a result: state → draw. Angles in degrees as for `g2s rotate`, the light as for `g2s relight`.
const scene = JSON.parse(document.getElementById("scene").textContent);
const [view, stage, photo, matte, before, panel, note, pad, sun] =
  ["view", "stage", "photo", "matte", "before", "panel", "note", "pad", "sun"].map(id => document.getElementById(id));
const MODES = ["photo", "albedo", "shape", "wireframe", "normals", "depth", "matte"], GREY_MODES = ["shape", "wireframe"];
const FILES = { albedo: "albedo_large.png", normals: "normal_large.png", depth: "depth_large.png", matte: "mask.png" };
const LIMITS = { yaw: [-75, 75], pitch: [-50, 50], zoom: [0.4, 6], x: [-5, 5], y: [-5, 5], diffuse: [0, 2], ambient: [0, 2],
  compare: [0, 100] };
// Beyond these degrees the shape is a guess, and fades. The swing of the auto-turn stays within.
const HONEST_YAW = 30, HONEST_PITCH = 20, MIN_FADE = 0.2, SWING_DEG = 15, SWING_MS = 7000;
const TURN_STEP = 5, LIGHT_STEP = 0.1, ZOOM_STEP = 1.15, PAD_RANGE = 1.5, CELL_PX = 8;
const NEUTRAL_LIGHT = { x: -0.4, y: 0.5, ambient: 0.25, diffuse: 0.75, colour: "#ffffff" };  // of grey layers
const { min_shading, min_z, ...PHOTO_LIGHT } = { ...scene.light, colour: "#ffffff" };
const INITIAL = { mode: "photo", compare: 0, yaw: 0, pitch: 0, zoom: 1, turning: false, ...PHOTO_LIGHT };
const clamp = (value, [least, most]) => Math.max(least, Math.min(most, value));
const radians = degrees => degrees * Math.PI / 180;

// Parameters in the address: view.html#yaw=20&light=0.5,0.2&mode=shape&zoom=1. With bare=1 the window has the photo's frame alone.
const query = new URLSearchParams(location.hash.slice(1)), bare = query.has("bare");
const state = { ...INITIAL };
const isPhotos = name => state[name] === PHOTO_LIGHT[name];
const isPhotoPlace = () => isPhotos("x") && isPhotos("y");
function setState(changes) {
  if ("yaw" in changes || "pitch" in changes) state.turning = false;
  for (const [name, value] of Object.entries(changes)) {
    if (!(name in LIMITS)) state[name] = value;
    else if (Number.isFinite(value)) state[name] = clamp(value, LIMITS[name]);
  }
  // A light that leaves the photo's place has the strengths of `g2s relight`, unless they were chosen.
  if (!isPhotoPlace() && isPhotos("diffuse") && isPhotos("ambient")) Object.assign(state, scene.moved_light);
}
const numbers = name => (query.get(name) ?? "").split(",").map(text => text === "" ? NaN : Number(text));
setState({ yaw: numbers("yaw")[0], pitch: numbers("pitch")[0], zoom: numbers("zoom")[0] });
if (numbers("light").length === 2 && numbers("light").every(Number.isFinite))
  setState({ x: numbers("light")[0], y: numbers("light")[1] });
if (MODES.includes(query.get("mode"))) state.mode = query.get("mode");
state.turning = !query.toString() && !matchMedia("(prefers-reduced-motion: reduce)").matches;
document.body.classList.toggle("bare", bare);
document.title = `${scene.title} · g2s`;
document.getElementById("title").textContent = scene.title;
window.addEventListener("hashchange", () => location.reload());

// ---- The data: base 64 of deflated arrays, of which each value is the difference to the one before it.

async function inflate(text, Values) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new Values(await new Response(stream).arrayBuffer());
  for (let k = 1; k < values.length; k++) values[k] += values[k - 1];
  return values;
}

// Columns one after the other → rows, scaled.
const interleave = (planes, scale) => Float32Array.from({ length: planes.length },
  (_, k) => scale(planes[(k % 3) * (planes.length / 3) + Math.floor(k / 3)], k % 3));

async function loadMesh() {
  const [positions, smooth, normals, faces] = await Promise.all([inflate(scene.positions, Uint16Array),
    inflate(scene.smooth_normals, Int8Array), inflate(scene.mesh_normals, Int8Array), inflate(scene.faces, Uint32Array)]);
  const [least, most] = scene.box;
  return {
    position: interleave(positions, (value, axis) => least[axis] + value / 65535 * (most[axis] - least[axis])),
    smooth_in: interleave(smooth, value => value / 127),
    mesh_in: interleave(normals, value => value / 127),
    faces,
  };
}

const loadImage = async url => { const image = new Image(); image.src = url; await image.decode(); return image; };

// ---- Geometry. Matrices are column-major, as in WebGL; mesh and camera axes are OpenGL's: x right, y up, z to the viewer.

const rows = scene.pose, POSE = [0, 1, 2].flatMap(column => [0, 1, 2].map(row => rows[row][column]));
const SHIFT = [0, 1, 2].map(row => rows[row][3]);
const multiply = (matrix, [x, y, z]) => [0, 1, 2].map(row => matrix[row] * x + matrix[row + 3] * y + matrix[row + 6] * z);

function turnMatrix({ yaw, pitch }) {
  const [sy, cy, sp, cp] = [Math.sin(radians(yaw)), Math.cos(radians(yaw)), Math.sin(radians(-pitch)), Math.cos(radians(-pitch))];
  return [cy, 0, -sy, sy * sp, cp, cy * sp, sy * cp, -sp, cy * cp];
}

const isPhotoLight = () => Object.keys(PHOTO_LIGHT).every(isPhotos);

// The light of the layer: that of the state, but what is still the photo's is neutral on grey layers.
function currentLight() {
  const neutral = name => GREY_MODES.includes(state.mode) && isPhotos(name);
  return Object.fromEntries(Object.keys(PHOTO_LIGHT).map(name => [name, (neutral(name) ? NEUTRAL_LIGHT : state)[name]]));
}

function lightDirection({ x, y }) {
  // In mesh axes, as geometry/shading.py: a light behind the object is moved to its horizon.
  const [right, up, near] = [0, 1, 2].map(axis => rows[0][axis] * x + rows[1][axis] * y + rows[2][axis]);
  const depth = Math.max(near, min_z), length = Math.hypot(right / depth, up / depth, 1);
  return [right / depth / length, up / depth / length, 1 / length];
}

// Limits of the object in the photo's view and at the ends of the swing: in half sides of the photo's frame, and its depths.
function measure({ position }) {
  const box = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity, near: Infinity, far: -Infinity };
  for (const yaw of [-SWING_DEG, SWING_DEG, 0]) {
    const turn = turnMatrix({ yaw, pitch: 0 });
    for (let k = 0; k < position.length; k += 3 * 7) {  // every seventh vertex
      const point = multiply(turn, multiply(POSE, position.subarray(k, k + 3))).map((value, axis) => value + SHIFT[axis]);
      const [x, y] = [0, 1].map(axis => scene.magnification * point[axis] / -point[2]);
      box.left = Math.min(box.left, x); box.right = Math.max(box.right, x);
      box.bottom = Math.min(box.bottom, y); box.top = Math.max(box.top, y);
      if (yaw === 0) { box.near = Math.min(box.near, -point[2]); box.far = Math.max(box.far, -point[2]); }
    }
  }
  return box;
}

// ---- Drawing

const VERTEX = `#version 300 es
  in vec3 position, smooth_in, mesh_in;  // normals of the networks' depth map, which are shaded, and of the mesh
  uniform mat3 pose, turn;         // to the photo's camera, and the turn after it
  uniform vec3 shift;
  uniform vec2 scale, centre;
  uniform vec4 texture_camera;     // focal, centre, size in pixels, pivot
  uniform bool unwrapped;          // draw the texture instead of a view
  uniform vec2 bleed;
  out vec3 smooth_normal, mesh_normal;
  out vec2 texcoord;
  out float depth;
  void main() {
    vec3 point = turn * (pose * position) + shift;
    float away = texture_camera.w - position.z;
    texcoord = (texture_camera.x * vec2(position.x, -position.y) / away + texture_camera.y + 0.5) / texture_camera.z;
    depth = -point.z;
    smooth_normal = smooth_in;
    mesh_normal = mesh_in;
    gl_Position = unwrapped ? vec4((2.0 * texcoord - 1.0) * vec2(1, -1) + bleed, 0, 1)
      : vec4(scale * (point.xy - centre * depth), (5.0 * depth - 4.0) / 3.0, depth);  // from 0.5 to 2 scene units away
  }`;
const FRAGMENT = `#version 300 es
  precision highp float;
  in vec3 smooth_normal, mesh_normal;
  in vec2 texcoord;
  in float depth;
  uniform mat3 pose, turn;
  uniform vec3 light_direction, light_colour;  // direction from the object to the light, in mesh axes
  uniform vec2 depth_range;
  uniform float ambient, diffuse, min_shading, max_reflectance, margin, fade, grid, line_step;
  uniform int mode;
  uniform sampler2D reflectance;
  out vec4 colour;
  void main() {
    // Beyond the networks' frame the surface is extrapolated: good for a picture, but no reconstructed shape.
    if (mode > 1 && any(greaterThan(abs(texcoord - 0.5), vec2(0.5 - margin)))) discard;
    vec3 facing = normalize(mesh_normal), root = texture(reflectance, texcoord).rgb;
    vec3 normal = mode == 0 ? normalize(smooth_normal) : facing;
    vec3 shading = light_colour * max(min_shading, ambient + diffuse * max(0.0, dot(normal, light_direction)));
    vec3 rgb = root * root * max_reflectance;
    if (mode == 0) rgb *= shading;
    if (mode == 2 || mode == 3) rgb = 0.75 * shading;
    if (mode == 3) {  // every line_step-th line of the mesh's grid
      vec2 place = (texcoord * grid - 0.5) / line_step, apart = 0.5 - abs(fract(place) - 0.5);
      vec2 line = 1.0 - smoothstep(0.0, 1.5, apart / fwidth(place));
      rgb = mix(rgb, vec3(0.05, 0.2, 0.5), max(line.x, line.y));
    }
    if (mode == 4) rgb = (turn * (pose * facing)) * 0.5 + 0.5;
    if (mode == 5) rgb = vec3(1.0 - 0.9 * clamp((depth - depth_range.x) / (depth_range.y - depth_range.x), 0.0, 1.0));
    colour = vec4(clamp(rgb, 0.0, 1.0), 1.0) * fade;
  }`;

const gl = stage.getContext("webgl2", { antialias: true });
let mesh, frame, uniform, pending = false;

function compile() {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  return program;
}

async function start() {
  mesh = await loadMesh();
  const texture = await loadImage(scene.reflectance);
  frame = measure(mesh);
  const program = compile(), locations = {};
  uniform = name => locations[name] ??= gl.getUniformLocation(program, name);
  for (const name of ["position", "smooth_in", "mesh_in"]) {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, mesh[name], gl.STATIC_DRAW);
    gl.enableVertexAttribArray(gl.getAttribLocation(program, name));
    gl.vertexAttribPointer(gl.getAttribLocation(program, name), 3, gl.FLOAT, false, 0, 0);
  }
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.faces, gl.STATIC_DRAW);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, texture);
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  for (const axis of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, axis, gl.CLAMP_TO_EDGE);
  gl.uniformMatrix3fv(uniform("pose"), false, POSE);
  gl.uniform3fv(uniform("shift"), SHIFT);
  gl.uniform4fv(uniform("texture_camera"), scene.texture_camera);
  gl.uniform2f(uniform("depth_range"), frame.near, frame.far);
  gl.uniform1f(uniform("max_reflectance"), scene.max_reflectance);
  gl.uniform1f(uniform("margin"), scene.margin);
  gl.uniform1f(uniform("grid"), scene.grid);
  gl.enable(gl.DEPTH_TEST);
  [photo.src, matte.src] = [scene.photo, scene.matte];
  await Promise.all([photo.decode(), matte.decode()]);
  listen();
  redraw();
}

function redraw() { if (!pending) { pending = true; requestAnimationFrame(draw); } }

function change(changes) { setState(changes); redraw(); }

// How much of the object's own colour is left of it, 1 within the honest range.
function fadeOf({ yaw, pitch }) {
  const beyond = Math.max((Math.abs(yaw) - HONEST_YAW) / (LIMITS.yaw[1] - HONEST_YAW),
    (Math.abs(pitch) - HONEST_PITCH) / (LIMITS.pitch[1] - HONEST_PITCH));
  return 1 - (1 - MIN_FADE) * clamp(beyond, [0, 1]);
}

// Pixels of half a side of the photo's frame, and the point of the frame in the middle of the window.
function placement(width, height) {
  if (bare) return { half: Math.min(width, height) / 2 * state.zoom, x: 0, y: 0 };
  const { left, right, bottom, top } = frame, fit = 0.94 * Math.min(width / (right - left), height / (top - bottom));
  return { half: fit * state.zoom, x: (left + right) / 2, y: (bottom + top) / 2 };
}

function draw(now) {
  pending = false;
  if (state.turning) { setState({ yaw: SWING_DEG * Math.sin(2 * Math.PI * now / SWING_MS), turning: true }); redraw(); }
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
  if (stage.width !== width || stage.height !== height) Object.assign(stage, { width, height });  // it makes new buffers
  const { half, x, y } = placement(width, height);
  gl.viewport(0, 0, width, height);
  gl.uniform1i(uniform("unwrapped"), 0);
  gl.uniform2f(uniform("scale"), scene.magnification * half * 2 / width, scene.magnification * half * 2 / height);
  gl.uniform2f(uniform("centre"), x / scene.magnification, y / scene.magnification);
  gl.uniform1f(uniform("fade"), fadeOf(state));
  gl.uniform1f(uniform("line_step"), 2 ** Math.max(0, Math.ceil(Math.log2(CELL_PX * ratio * scene.grid / (2 * half)))));
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  drawMesh();
  updatePage(ratio);
}

function drawMesh() {
  const light = currentLight(), colour = [1, 3, 5].map(at => parseInt(light.colour.slice(at, at + 2), 16) / 255);
  gl.uniformMatrix3fv(uniform("turn"), false, turnMatrix(state));
  gl.uniform3fv(uniform("light_direction"), lightDirection(light));
  gl.uniform3fv(uniform("light_colour"), colour);
  gl.uniform1f(uniform("ambient"), light.ambient);
  gl.uniform1f(uniform("diffuse"), light.diffuse);
  gl.uniform1f(uniform("min_shading"), isPhotoLight() ? min_shading : 0);  // as when the shading was removed from the photo
  gl.uniform1i(uniform("mode"), MODES.indexOf(state.mode) % MODES.indexOf("matte"));
  gl.drawElements(gl.TRIANGLES, mesh.faces.length, gl.UNSIGNED_INT, 0);
}

// ---- The page around the canvas

const degrees = value => `${Math.round(value)}°`;
const FORMATS = { yaw: degrees, pitch: degrees, zoom: value => `${value.toFixed(1)}×`, compare: value => `${Math.round(value)} %` };

function updatePage(ratio) {
  const light = currentLight(), shown = { ...state, ...light };
  for (const input of panel.querySelectorAll("input")) {
    const value = shown[input.name], output = input.nextElementSibling;
    if (input.type === "radio") input.checked = input.value === value;
    else if (input.type === "checkbox") input.checked = value;
    else input.value = value;
    if (output) output.textContent = (FORMATS[input.name] ?? (number => number.toFixed(2)))(value);
  }
  const scaled = 50 * Math.min(1 / PAD_RANGE, 1 / Math.hypot(light.x, light.y));
  [sun.style.left, sun.style.top] = [`${50 + scaled * light.x}%`, `${50 - scaled * light.y}%`];
  const { half, x, y } = placement(stage.width, stage.height);
  for (const image of [photo, matte]) {
    image.style.width = `${2 * half / ratio}px`;
    image.style.left = `${(stage.width / 2 - (x + 1) * half) / ratio}px`;
    image.style.top = `${(stage.height / 2 + (y - 1) * half) / ratio}px`;
  }
  before.hidden = state.compare === 0;
  before.style.width = `${state.compare}%`;
  matte.hidden = state.mode !== "matte";
  stage.style.opacity = matte.hidden ? 1 : 0;
  say(fadeOf(state) < 1 ? `Beyond ${HONEST_YAW}° to a side, ${HONEST_PITCH}° up or down, the shape is a guess: the object fades.` : "");
  panel.querySelector("#command").hidden = !scene.folder;
  panel.querySelector("code").textContent = scene.folder && command();
}

function say(text) { if (note.textContent !== text) note.textContent = text; }

// What makes the same picture, or has it, outside this page.
function command() {
  const [yaw, pitch] = [Math.round(state.yaw), Math.round(state.pitch)], turned = yaw !== 0 || pitch !== 0;
  const lit = !isPhotoPlace() || !isPhotos("diffuse") || !isPhotos("ambient"), { folder } = scene;
  const round = value => Number(value.toFixed(2)), strengths = [["strength", "diffuse"], ["ambient", "ambient"]]
    .filter(([, name]) => state[name] !== scene.moved_light[name]).map(([option, name]) => [option, round(state[name])]);
  const argument = /^\w[\w.-]*$/.test(folder) ? folder : `'./${folder.replaceAll("'", "'\\''")}'`;
  if (!turned && FILES[state.mode]) return `${folder}/${FILES[state.mode]}`;
  if (turned && lit) {
    const [right, up, near] = multiply(turnMatrix(state), [state.x, state.y, 1]), depth = Math.max(near, min_z);
    return `from g2s_cli import read_result; read_result(${JSON.stringify(folder)}).save_picture("picture.png", ` +
      `yaw_deg=${yaw}, pitch_deg=${pitch}, light=(${round(right / depth)}, ${round(up / depth)})` +
      `${strengths.map(([option, value]) => `, ${option}=${value}`).join("")})  # Python`;
  }
  if (lit) return `g2s relight ${argument} --light=${round(state.x)},${round(state.y)}` +
    strengths.map(([option, value]) => ` --${option} ${value}`).join("");
  return `g2s rotate ${argument} --yaw ${yaw}${pitch ? ` --pitch ${pitch}` : ""}`;
}

function listen() {
  panel.addEventListener("input", ({ target: { name, type, value, checked } }) =>
    change({ [name]: type === "checkbox" ? checked : type === "range" ? Number(value) : value }));
  const click = (id, action) => document.getElementById(id).addEventListener("click", action);
  click("reset", () => change(INITIAL));
  click("picture", async () => download("png", await takePicture()));
  click("mesh", async () => download("glb", await makeGlb()));
  listenToPointers();
  stage.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const zoom = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP }[event.key];
    if (zoom) change({ zoom: state.zoom * zoom });
    else if (arrow && event.shiftKey) moveLight(LIGHT_STEP * arrow[0], LIGHT_STEP * arrow[1]);
    else if (arrow) turnBy(TURN_STEP * arrow[0], TURN_STEP * arrow[1]);
    if (zoom || arrow) event.preventDefault();
  });
  window.addEventListener("resize", redraw);
  // A move to a screen of another resolution is no resize event.
  const watchResolution = () => matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`)
    .addEventListener("change", () => { redraw(); watchResolution(); }, { once: true });
  watchResolution();
}

function turnBy(yaw, pitch) { change({ yaw: state.yaw + yaw, pitch: state.pitch + pitch }); }
function moveLight(right, up) { const { x, y } = currentLight(); change({ x: x + right, y: y + up }); }

function listenToPointers() {
  const fingers = new Map();
  stage.addEventListener("pointerdown", event => {
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    change({ turning: false });
  });
  stage.addEventListener("pointermove", event => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const [right, down] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (fingers.size === 2) {
      const [other] = [...fingers.values()].filter(finger => finger.pointerId !== event.pointerId);
      const distance = finger => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
      change({ zoom: state.zoom * distance(event) / Math.max(distance(last), 1) });
    } else if (event.shiftKey || event.buttons === 2) moveLight(right / 150, -down / 150);
    else turnBy(right / 4, -down / 4);
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, event => fingers.delete(event.pointerId));
  stage.addEventListener("contextmenu", event => event.preventDefault());
  stage.addEventListener("wheel", event => {
    event.preventDefault();
    change({ zoom: state.zoom * Math.exp(-event.deltaY / 800) });
  }, { passive: false });
  const moveSun = event => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    const box = pad.getBoundingClientRect();
    const [x, y] = [2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height];
    const scaled = PAD_RANGE / Math.max(1, Math.hypot(x, y));
    change({ x: x * scaled, y: y * scaled });
  };
  pad.addEventListener("pointerdown", event => { pad.setPointerCapture(event.pointerId); moveSun(event); });
  pad.addEventListener("pointermove", moveSun);
}

// ---- Without WebGL 2

function showTurntable() {
  view.classList.add("helpless");
  document.getElementById("turntable").src = scene.turntable;
  say("This browser shows no WebGL 2: this is a film. mesh.glb of the result opens in any 3D viewer.");
}

if (gl) start().catch(error => { console.error(error); showTurntable(); });
else showTurntable();
// A reset of the graphics card loses all buffers.
stage.addEventListener("webglcontextlost", event => event.preventDefault());
stage.addEventListener("webglcontextrestored", () => location.reload());
