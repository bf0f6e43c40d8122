// The page: a plan on the left, its films in the middle, the model's memory on the right.

const find = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const SITE_METRES = 24;

let kinds = [], plans = [], steps = [], rate = 4, films = [], frame = 0, playing = null;

async function call(path, body) {
  const answer = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const value = await answer.json();
  if (!answer.ok) throw new Error(typeof value.detail === "string" ? value.detail : JSON.stringify(value.detail));
  return value;
}

function say(text) { find("message").textContent = text; }

function picture(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error("a picture could not be shown"));
    image.src = source;
  });
}

// The plan

function kindOf(step) { return kinds.find((kind) => kind.do === step.do); }

function showSteps() {
  find("steps").replaceChildren(...steps.map((step, index) => {
    const row = document.createElement("li"), { unit, least, most } = kindOf(step);
    row.append(step.do + " ");
    if (unit) {
      const value = document.createElement("input");
      Object.assign(value, { type: "number", min: least, max: most, step: 0.5, value: step[unit].toFixed(1) });
      value.onchange = () => { step[unit] = Number(value.value); };
      row.append(value, unit === "seconds" ? " s" : " m");
    }
    const remove = document.createElement("button");
    remove.textContent = "×";
    remove.title = "remove";
    remove.onclick = () => { steps.splice(index, 1); showSteps(); };
    row.append(" ", remove);
    return row;
  }));
}

function addStep(kind, value = (kind.least + kind.most) / 2) {
  steps.push(kind.unit ? { do: kind.do, [kind.unit]: value } : { do: kind.do });
  showSteps();
}

async function choose(index) {
  steps = structuredClone(plans[index].steps);
  showSteps();
  const shown = await picture((await call(`/api/site/${plans[index].site}`)).picture);
  find("site").getContext("2d").drawImage(shown, 0, 0);
}

// The films

function prepare(variants) {
  films = variants.map((wind) => {
    const box = document.createElement("div"), pair = document.createElement("div");
    const [predicted, real] = [0, 1].map(() => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 64;
      return canvas;
    });
    box.className = "film";
    pair.className = "pair";
    predicted.title = "predicted by the model";
    real.title = "what the simulator says";
    pair.append(predicted, real);
    box.append(pair, `predicted · simulator — wind ${wind.toFixed(1)}`);
    return { box, canvases: [predicted, real], frames: [] };
  });
  find("films").replaceChildren(...films.map((film) => film.box));
  frame = 0;
}

function show(number) {
  frame = number;
  for (const film of films) {
    const entry = film.frames[number];
    if (!entry) continue;
    film.canvases.forEach((canvas, side) => {
      const { image, column, size } = entry[side];
      canvas.width = canvas.height = size;
      canvas.getContext("2d").drawImage(image, column * size, 0, size, size, 0, 0, size, size);
    });
  }
  const count = films[0]?.frames.length ?? 0;
  find("scrub").max = Math.max(0, count - 1);
  find("scrub").value = number;
  find("clock").textContent = count ? `${(number / rate).toFixed(2)} s of ${(count / rate).toFixed(2)} s` : "";
}

async function add(piece) {
  for (const [variant, film] of films.entries()) {
    const images = await Promise.all([piece.predicted[variant], piece.real[variant]].map(picture));
    for (let column = 0; column < piece.frames; column++) {
      film.frames.push(images.map((image) => ({ image, column, size: image.height })));
    }
  }
}

function play() {
  clearInterval(playing);
  playing = setInterval(() => {
    const count = films[0]?.frames.length ?? 0;
    if (count && !find("scrub").matches(":active")) show((frame + 1) % count);
  }, 1000 / rate);
}

function run() {
  const strongest = Number(find("wind").value), count = Number(find("variants").value);
  const winds = Array.from({ length: count }, (_, index) => count === 1 ? strongest : strongest * index / (count - 1));
  const { site } = plans[find("preset").value];
  say("");
  prepare(winds);
  find("run").disabled = true;
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/run`);
  let pieces = Promise.resolve();
  socket.onopen = () => socket.send(JSON.stringify({
    seconds: Number(find("seconds").value), plans: winds.map((wind) => ({ site, wind, steps })),
  }));
  socket.onmessage = (message) => {
    const piece = JSON.parse(message.data);
    if (piece.error) say(piece.error);
    else if (piece.done) find("films").dataset.done = "yes";
    else pieces = pieces.then(() => add(piece)).catch((error) => say(error.message));
  };
  socket.onerror = () => say("the connection to the server broke off");
  socket.onclose = () => { find("run").disabled = false; };
  delete find("films").dataset.done;
  play();
}

// The memory

function showMemory(memory) {
  find("share-value").textContent = `${find("share").value} % · ${megabytes(memory.budget)}`;
  const numbers = {
    weights: megabytes(memory.total), "in memory": megabytes(memory.used), "read so far": megabytes(memory.read),
    "read in the last pass": megabytes(memory.pass_bytes), passes: memory.passes, stalled: `${memory.stalls.toFixed(2)} s`,
  };
  find("numbers").replaceChildren(...Object.entries(numbers).flatMap(([name, value]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = value;
    return [term, description];
  }));
  find("blocks").replaceChildren(...memory.blocks.filter((block) => block.total).map((block) => {
    const row = document.createElement("div"), bar = document.createElement("div"), part = document.createElement("i");
    row.className = "block";
    bar.className = "bar";
    bar.title = `${megabytes(block.resident)} of ${megabytes(block.total)}`;
    part.style.width = `${100 * block.resident / block.total}%`;
    bar.append(part);
    row.append(block.name, bar);
    return row;
  }));
}

async function watch() {
  try { showMemory(await call("/api/memory")); } catch { /* the server is gone or busy: the next look may tell more */ }
  setTimeout(watch, 400);
}

async function resize() {
  try { say(""); showMemory(await call("/api/memory", { share: Number(find("share").value) / 100 })); }
  catch (error) { say(error.message); }
}

const { plans: presets, kinds: known, frames_per_second } = await call("/api/presets");
[plans, kinds, rate] = [presets, known, frames_per_second];
find("preset").append(...plans.map((plan, index) => new Option(`number ${plan.site}`, index)));
find("preset").onchange = () => choose(find("preset").value).catch((error) => say(error.message));
find("wind").oninput = () => { find("wind-value").textContent = find("wind").value; };
find("add").append(...kinds.map((kind) => {
  const button = document.createElement("button");
  button.textContent = `+ ${kind.do}`;
  button.onclick = () => addStep(kind);
  return button;
}));
find("site").onclick = (event) => {
  const slew = kinds.find((kind) => kind.do === "slew");
  const metres = event.offsetX / find("site").clientWidth * SITE_METRES;
  addStep(slew, Math.min(slew.most, Math.max(slew.least, metres)));
};
find("run").onclick = run;
find("scrub").oninput = () => show(Number(find("scrub").value));
find("share").onchange = resize;
await choose(0);
watch();
document.body.dataset.ready = "yes";
