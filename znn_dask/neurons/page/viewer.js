"use strict";
// Shows the meshes in this page with WebGL2: unpack, draw, turn, pick. Lengths are in nm; in the
// scene, 1 is the radius of everything shown and the origin its middle.

const el = (id) => document.getElementById(id);
const scene = JSON.parse(el("scene").textContent);
const canvas = el("view");

// --- unpacking (the other end is packing.py) ---

async function unpackData() {
  const text = atob(el("data").textContent);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Numbers are stored column by column, as differences, and those byte by byte.
function column(bytes, at, count, width) {
  const values = new Uint32Array(count);
  const mask = width === 4 ? 0xffffffff : (1 << (8 * width)) - 1;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    let difference = 0;
    for (let b = 0; b < width; b++) difference |= bytes[at + b * count + i] << (8 * b);
    sum = (sum + difference) & mask;
    values[i] = sum >>> 0;
  }
  return values;
}

function unpackMesh(bytes, object) {
  const n = object.vertices, m = object.triangles;
  let at = object.at;
  const positions = new Uint16Array(4 * n);
  for (let axis = 0; axis < 3; axis++, at += 2 * n) {
    const values = column(bytes, at, n, 2);
    for (let i = 0; i < n; i++) positions[4 * i + axis] = values[i];
  }
  const shade = bytes.slice(at, at + n);
  at += n;
  const faces = new Uint32Array(3 * m);
  for (let corner = 0; corner < 3; corner++, at += 4 * m) {
    const values = column(bytes, at, m, 4);
    for (let i = 0; i < m; i++) faces[3 * i + corner] = values[i];
  }
  return { positions, shade, faces, normals: normals(positions, faces, object.size) };
}

function normals(positions, faces, size) {
  const n = positions.length / 4, sum = new Float32Array(3 * n), out = new Int8Array(4 * n);
  const [sx, sy, sz] = size;
  for (let f = 0; f < faces.length; f += 3) {
    const a = 4 * faces[f], b = 4 * faces[f + 1], c = 4 * faces[f + 2];
    const ux = (positions[b] - positions[a]) * sx, uy = (positions[b + 1] - positions[a + 1]) * sy;
    const uz = (positions[b + 2] - positions[a + 2]) * sz, vx = (positions[c] - positions[a]) * sx;
    const vy = (positions[c + 1] - positions[a + 1]) * sy, vz = (positions[c + 2] - positions[a + 2]) * sz;
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    for (const v of [a, b, c]) {
      const k = (v / 4) * 3;
      sum[k] += x; sum[k + 1] += y; sum[k + 2] += z;
    }
  }
  for (let i = 0; i < n; i++) {
    const length = Math.hypot(sum[3 * i], sum[3 * i + 1], sum[3 * i + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) out[4 * i + axis] = Math.round((127 * sum[3 * i + axis]) / length);
  }
  return out;
}

// --- programs of the graphics card ---

const MESH_VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in float shade;
uniform mat4 projection; uniform mat3 turn; uniform vec3 shift, origin, extent;
out vec3 n; out vec3 eye; out float open;
void main() {
  eye = turn * (origin + extent * position) + shift;
  n = turn * normal; open = shade;
  gl_Position = projection * vec4(eye, 1.0);
}`;
const MESH_FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec3 eye; in float open;
uniform vec3 colour, back; uniform float middle;
out vec4 pixel;
void main() {
  vec3 to = normalize(-eye), u = normalize(n) * (gl_FrontFacing ? 1.0 : -1.0);
  vec3 key = normalize(vec3(-0.45, 0.65, 0.75)), fill = normalize(vec3(0.8, -0.1, 0.35));
  float air = 0.25 + 0.75 * open;
  float lit = 0.75 * max(dot(u, key), 0.0) * mix(0.6, 1.0, open) + 0.16 * max(dot(u, fill), 0.0)
    + (0.20 + 0.10 * u.y) * air;
  vec3 base = pow(colour, vec3(2.2));
  float shine = pow(max(dot(u, normalize(key + to)), 0.0), 42.0) * 0.10 * open;
  float rim = pow(1.0 - max(dot(u, to), 0.0), 3.0) * 0.10;
  vec3 light = base * lit * 1.15 + shine + rim * base;
  float far = clamp((-eye.z - middle + 0.15) * 0.42, 0.0, 0.55);
  pixel = vec4(mix(pow(light, vec3(1.0 / 2.2)), back, far), 1.0);
}`;
const PICK_FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec3 eye; in float open;
uniform vec3 colour;
out vec4 pixel;
void main() { pixel = vec4(colour, 1.0); }`;
const SLICE_VERTEX = `#version 300 es
in vec3 position;
uniform mat4 projection; uniform mat3 turn; uniform vec3 shift, origin, extent, part;
out vec3 where;
void main() {
  where = position * part;
  gl_Position = projection * vec4(turn * (origin + extent * position) + shift, 1.0);
}`;
const SLICE_FRAGMENT = `#version 300 es
precision highp float; precision highp sampler3D;
in vec3 where;
uniform sampler3D image;
out vec4 pixel;
void main() { pixel = vec4(vec3(texture(image, where).r), 1.0); }`;
const LINE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 where;
uniform vec4 ink;
out vec4 pixel;
void main() { pixel = ink; }`;

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  ["position", "normal", "shade"].forEach((name, place) => gl.bindAttribLocation(made, place, name));
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  const uniforms = {};
  const count = gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS);
  for (let i = 0; i < count; i++) {
    const { name } = gl.getActiveUniform(made, i);
    uniforms[name] = gl.getUniformLocation(made, name);
  }
  return { made, uniforms };
}

function attribute(gl, place, values, size, type, stride) {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, size, type, type !== gl.FLOAT, stride, 0);
}

// --- the scene on the graphics card ---

const low = scene.bounds[0], high = scene.bounds[1];
const centre = low.map((v, i) => (v + high[i]) / 2);
const radius = Math.hypot(...low.map((v, i) => high[i] - v)) / 2;
const place = (nm) => nm.map((v, i) => (v - centre[i]) / radius);
const size = (nm) => nm.map((v) => v / radius);

function loadMesh(gl, bytes, object) {
  const mesh = unpackMesh(bytes, object);
  object.vao = gl.createVertexArray();
  gl.bindVertexArray(object.vao);
  attribute(gl, 0, mesh.positions, 3, gl.UNSIGNED_SHORT, 8);
  attribute(gl, 1, mesh.normals, 3, gl.BYTE, 4);
  attribute(gl, 2, mesh.shade, 1, gl.UNSIGNED_BYTE, 1);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.faces, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  object.shown = true;
}

function loadImage(gl, bytes, image) {
  const [nz, ny, nx] = image.shape;
  gl.bindTexture(gl.TEXTURE_3D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const voxels = bytes.subarray(image.at, image.at + nz * ny * nx);
  gl.texImage3D(gl.TEXTURE_3D, 0, gl.R8, nx, ny, nz, 0, gl.RED, gl.UNSIGNED_BYTE, voxels);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, filter, gl.LINEAR);
  for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) {
    gl.texParameteri(gl.TEXTURE_3D, wrap, gl.CLAMP_TO_EDGE);
  }
}

const BOX = [0, 1, 1, 3, 3, 2, 2, 0, 4, 5, 5, 7, 7, 6, 6, 4, 0, 4, 1, 5, 2, 6, 3, 7]
  .flatMap((corner) => [corner & 1, (corner >> 1) & 1, corner >> 2]);

function positionsOnly(gl, values) {
  const vao = gl.createVertexArray(), buffer = gl.createBuffer();
  gl.bindVertexArray(vao);
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.bindVertexArray(null);
  return { vao, buffer };
}

// --- the camera ---

const FIELD = Math.tan((12 * Math.PI) / 180); // half the field of view
const camera = { turn: null, distance: 0, shift: [0, 0] };

// A turn is three rows: the directions in the scene of right, up and towards the eye.
const LOOK = {
  x: [[0, 0, 1], [0, -1, 0], [1, 0, 0]],
  y: [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
  z: [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
};

function rotate(rows, axis, angle) {
  const [a, b] = [[1, 2], [2, 0], [0, 1]][axis], c = Math.cos(angle), s = Math.sin(angle);
  const out = rows.map((row) => row.slice());
  for (let i = 0; i < 3; i++) {
    out[a][i] = c * rows[a][i] - s * rows[b][i];
    out[b][i] = s * rows[a][i] + c * rows[b][i];
  }
  return out;
}

function home() {
  camera.turn = rotate(rotate(LOOK.z, 1, -0.6), 0, 0.45);
  camera.shift = [0, 0];
  const narrow = Math.min(1, clear() / canvas.clientHeight);
  camera.distance = 0.9 / (FIELD * narrow); // the corners of the box rarely lie across
  redraw();
}

// Width of the canvas beside the list.
const clear = () => canvas.clientWidth - (el("panel").classList.contains("folded") ? 0 : 262);

function projection() {
  const near = Math.max(0.02, camera.distance - 1.8), far = camera.distance + 1.8;
  const aspect = canvas.clientWidth / canvas.clientHeight, m = new Float32Array(16);
  m[0] = 1 / (FIELD * aspect); m[5] = 1 / FIELD;
  m[8] = (canvas.clientWidth - clear()) / canvas.clientWidth; // the middle beside the list
  m[10] = (far + near) / (near - far); m[11] = -1; m[14] = (2 * far * near) / (near - far);
  return m;
}

const perPixel = () => (2 * FIELD * camera.distance) / canvas.clientHeight;

// --- drawing ---

let gl = null, meshes = null, picks = null, slices = null, lines = null, box = null, quad = null;
let selected = null, waiting = false;

function redraw() {
  if (waiting || !gl) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function use({ made, uniforms }) {
  gl.useProgram(made);
  gl.uniformMatrix4fv(uniforms.projection, false, projection());
  gl.uniformMatrix3fv(uniforms.turn, true, camera.turn.flat());
  gl.uniform3f(uniforms.shift, ...camera.shift, -camera.distance);
  return uniforms;
}

function background() {
  return document.documentElement.classList.contains("light") ? [1, 1, 1] : [0.063, 0.075, 0.094];
}

function drawMeshes(which, colour) {
  const uniforms = use(which);
  gl.uniform3fv(uniforms.back ?? null, background());
  gl.uniform1f(uniforms.middle ?? null, camera.distance);
  scene.objects.forEach((object, index) => {
    if (!object.shown) return;
    gl.uniform3fv(uniforms.colour, colour(object, index));
    gl.uniform3fv(uniforms.origin, place(object.origin));
    gl.uniform3fv(uniforms.extent, size(object.size));
    gl.bindVertexArray(object.vao);
    gl.drawElements(gl.TRIANGLES, 3 * object.triangles, gl.UNSIGNED_INT, 0);
  });
}

function shade(object) {
  if (selected === null || selected === object) return object.colour;
  const grey = 0.3 * object.colour[0] + 0.6 * object.colour[1] + 0.1 * object.colour[2];
  return object.colour.map((c) => 0.3 * c + 0.45 * grey);
}

function drawSlices() {
  if (!scene.image) return;
  const uniforms = use(slices);
  gl.uniform3fv(uniforms.origin, place(scene.image.origin));
  gl.uniform3fv(uniforms.extent, size(scene.image.size));
  gl.uniform3fv(uniforms.part, scene.image.part);
  gl.bindVertexArray(quad.vao);
  gl.bindBuffer(gl.ARRAY_BUFFER, quad.buffer);
  for (let axis = 0; axis < 3; axis++) {
    if (!el(`slice-${axis}`).checked) continue;
    const at = Number(el(`at-${axis}`).value);
    const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].flatMap(([u, v]) => {
      const corner = [u, v];
      corner.splice(axis, 0, at);
      return corner;
    });
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, new Float32Array(corners));
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}

function draw() {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  gl.viewport(0, 0, width, height);
  gl.clearColor(...background(), 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  drawSlices();
  drawMeshes(meshes, shade);
  const uniforms = use(lines);
  gl.uniform3fv(uniforms.origin, place(low));
  gl.uniform3fv(uniforms.extent, size(high.map((v, i) => v - low[i])));
  gl.uniform4f(uniforms.ink, 0.5, 0.54, 0.6, 1);
  gl.bindVertexArray(box.vao);
  gl.drawArrays(gl.LINES, 0, 24);
  drawScale();
  drawAxes();
}

function length(nm) {
  return nm < 1000 ? `${nm} nm` : nm < 1e6 ? `${nm / 1000} µm` : `${nm / 1e6} mm`;
}

function drawScale() {
  const nm = perPixel() * radius, most = 160 * nm;
  const power = 10 ** Math.floor(Math.log10(most));
  const bar = [5, 2, 1].map((k) => k * power).find((k) => k <= most);
  el("scale").children[0].textContent = length(bar);
  el("scale").children[1].style.width = `${bar / nm}px`;
}

function drawAxes() {
  el("axes").innerHTML = ["x", "y", "z"]
    .map((name, i) => ({ name, x: camera.turn[0][i], y: -camera.turn[1][i], depth: camera.turn[2][i], i }))
    .sort((a, b) => a.depth - b.depth)
    .map(({ name, x, y, i }) => `<line x2="${25 * x}" y2="${25 * y}" stroke="${["#e0605e", "#5fae62", "#5b8def"][i]}"/>`
      + `<text x="${34 * x}" y="${34 * y}">${name}</text>`)
    .join("");
}

// --- picking ---

// The object at a point of the page, or null: all are drawn in their number as colour.
function pick(x, y) {
  const width = canvas.width, height = canvas.height;
  const buffer = gl.createFramebuffer(), colour = gl.createRenderbuffer(), depth = gl.createRenderbuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
  for (const [store, format, point] of [
    [colour, gl.RGBA8, gl.COLOR_ATTACHMENT0], [depth, gl.DEPTH_COMPONENT24, gl.DEPTH_ATTACHMENT]]) {
    gl.bindRenderbuffer(gl.RENDERBUFFER, store);
    gl.renderbufferStorage(gl.RENDERBUFFER, format, width, height);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, point, gl.RENDERBUFFER, store);
  }
  gl.clearColor(0, 0, 0, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  drawSlices();
  gl.clear(gl.COLOR_BUFFER_BIT); // slices hide objects but are none
  drawMeshes(picks, (object, index) => [((index + 1) & 255) / 255, ((index + 1) >> 8) / 255, 0]);
  const scale = width / canvas.clientWidth, pixel = new Uint8Array(4);
  gl.readPixels(Math.floor(x * scale), Math.floor(height - 1 - y * scale), 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.deleteFramebuffer(buffer);
  gl.deleteRenderbuffer(colour);
  gl.deleteRenderbuffer(depth);
  return scene.objects[pixel[0] + 256 * pixel[1] - 1] ?? null;
}

function select(object) {
  selected = object;
  for (const other of scene.objects) other.row.classList.toggle("selected", other === object);
  if (object) object.row.scrollIntoView({ block: "nearest" });
  redraw();
}

function show(which) {
  for (const object of scene.objects) object.box.checked = object.shown = which(object);
  redraw();
}

// --- mouse, touch and keys ---

function listen() {
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus();
    if (pointers.size === 0) moved = 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before[0], dy = event.clientY - before[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      zoom(apart(before) / Math.max(1, apart([event.clientX, event.clientY])));
      move(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) move(dx, dy);
    else turn(dx, dy);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.size === 1 && moved < 4 && event.button === 0) select(pick(event.offsetX, event.offsetY));
    pointers.delete(event.pointerId);
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("dblclick", isolate);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.03 : 0.0012)));
  }, { passive: false });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" && event.target.type === "range") return;
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  el("all").onclick = KEYS.a;
  el("none").onclick = () => show(() => false);
  el("home").onclick = home;
  el("help").onclick = KEYS["?"];
  el("fold").onclick = KEYS.l;
  new ResizeObserver(redraw).observe(canvas);
}

function turn(dx, dy) {
  camera.turn = rotate(rotate(camera.turn, 1, dx * 0.008), 0, dy * 0.008);
  redraw();
}

function move(dx, dy) {
  camera.shift = [camera.shift[0] + dx * perPixel(), camera.shift[1] - dy * perPixel()];
  redraw();
}

function zoom(factor) {
  camera.distance = Math.min(40, Math.max(0.05, camera.distance * factor));
  redraw();
}

function isolate() {
  if (selected) show((object) => object === selected);
}

function look(axis) {
  camera.turn = LOOK[axis];
  redraw();
}

const KEYS = {
  ArrowLeft: () => turn(-20, 0), ArrowRight: () => turn(20, 0), ArrowUp: () => turn(0, -20), ArrowDown: () => turn(0, 20),
  "+": () => zoom(0.85), "=": () => zoom(0.85), "-": () => zoom(1 / 0.85),
  x: () => look("x"), y: () => look("y"), z: () => look("z"), r: home, i: isolate,
  a: () => show(() => true),
  h: () => { const gone = selected; select(null); show((object) => object.shown && object !== gone); },
  b: () => { document.documentElement.classList.toggle("light"); redraw(); },
  l: () => { el("panel").classList.toggle("folded"); redraw(); },
  "?": () => el("keys").showModal(),
  Escape: () => select(null),
};

// --- the list ---

function volume(nm3) {
  const value = nm3 / 1e9;
  return `${value < 0.01 ? value.toPrecision(1) : value < 10 ? value.toFixed(2) : Math.round(value).toLocaleString("en")} µm³`;
}

function list() {
  const total = scene.objects.reduce((sum, object) => sum + object.triangles, 0);
  el("summary").textContent = scene.summary;
  el("summary").title = `${total.toLocaleString("en")} triangles`;
  for (const object of scene.objects) {
    const row = document.createElement("li");
    const colour = `rgb(${object.colour.map((c) => Math.round(255 * c)).join(",")})`;
    row.innerHTML = `<input type="checkbox" checked><i style="background:${colour}"></i><b></b><small></small>`;
    row.children[0].setAttribute("aria-label", `show object ${object.id}`);
    row.children[2].textContent = object.id;
    row.children[3].textContent = volume(object.volume);
    row.title = `${object.voxels.toLocaleString("en")} voxels`;
    row.dataset.id = object.id;
    row.children[0].onchange = (event) => { object.shown = event.target.checked; redraw(); };
    row.onclick = (event) => { if (event.target !== row.children[0]) select(selected === object ? null : object); };
    row.ondblclick = () => { select(object); isolate(); };
    object.row = row;
    object.box = row.children[0];
    el("objects").append(row);
  }
  if (!scene.image) return;
  el("slices").hidden = false;
  ["x", "y", "z"].forEach((name, axis) => {
    const row = document.createElement("label");
    row.innerHTML = `<input type="checkbox" id="slice-${axis}"${axis === 2 ? " checked" : ""}>${name}`
      + `<input type="range" id="at-${axis}" min="0" max="1" step="0.002" value="0.5" aria-label="position along ${name}">`;
    for (const input of row.children) input.oninput = redraw;
    row.children[1].addEventListener("input", () => { row.children[0].checked = true; });
    el("slices").append(row);
  });
}

async function start() {
  gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true, alpha: false });
  if (!gl) throw new Error("this browser has no WebGL2, which the picture needs");
  const bytes = await unpackData();
  meshes = program(gl, MESH_VERTEX, MESH_FRAGMENT);
  picks = program(gl, MESH_VERTEX, PICK_FRAGMENT);
  slices = program(gl, SLICE_VERTEX, SLICE_FRAGMENT);
  lines = program(gl, SLICE_VERTEX, LINE_FRAGMENT);
  for (const object of scene.objects) loadMesh(gl, bytes, object);
  if (scene.image) loadImage(gl, bytes, scene.image);
  box = positionsOnly(gl, BOX);
  quad = positionsOnly(gl, new Array(12).fill(0));
  gl.enable(gl.DEPTH_TEST);
  if (window.innerWidth < 640) el("panel").classList.add("folded");
  list();
  listen();
  home();
  el("message").textContent = "";
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  el("message").textContent = `Cannot show the neurons: ${error.message}`;
  console.error(error);
});
