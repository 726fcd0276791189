/* The filter explorer: what larq_filter.analysis and larq_filter.hyperparameters say, in a page.
 *
 * The one second copy of formulas in the project. tests/site/test_explorer.py fills the form in a
 * browser and compares every number with the package's; each number shown carries all its digits in
 * data-value. A filter is two sums of its rates: with d = z - 1,
 *
 *     H(z) = P z^2 / (d^2 + S d + P),   S = alpha + gamma,   P = alpha gamma
 *
 * which holds for complex poles as well, where there is no alpha and no gamma.
 */
"use strict";

(function () {
  const SHARES = [0, 0.25, 0.5, 0.75, 0.95]; // of the run, where rates are read

  const SCHEDULES = {
    constant: () => 1,
    linear: (share) => 1 - share,
    cosine: (share) => 0.5 * (1 + Math.cos(Math.PI * share)),
  };
  const IN_PYTHON = {
    constant: (rate) => `${rate}`,
    linear: (rate, steps) => `tf.keras.optimizers.schedules.PolynomialDecay(${rate}, ${steps}, 0.0)`,
    cosine: (rate, steps) => `tf.keras.optimizers.schedules.CosineDecay(${rate}, ${steps})`,
  };

  // What is entered ------------------------------------------------------------------------------

  const INTERVALS = {
    learning_rate: ["(0, inf)", (x) => x > 0],
    weight_decay: ["[0, inf)", (x) => x >= 0],
    momentum: ["[0, 1)", (x) => x >= 0 && x < 1],
    alpha: ["(0, 1]", (x) => x > 0 && x <= 1],
    gamma: ["(0, 1]", (x) => x > 0 && x <= 1],
  };
  const COUNTS = ["batch_size", "dataset_size", "epochs"];
  const OF_RECIPE = ["learning_rate", "weight_decay", "momentum"];
  const OF_FILTER = ["alpha", "gamma"];
  const CHOICES = ["source", "decay", "velocity", "schedule"];

  function read(form) {
    const given = {};
    for (const name of CHOICES) given[name] = form.elements[name].value;
    const names = given.source === "recipe" ? OF_RECIPE : OF_FILTER;
    for (const name of [...names, ...COUNTS]) {
      const text = form.elements[name].value.trim();
      const number = Number(text);
      const [interval, holds] = INTERVALS[name] || [
        "the integers from 1 to 10^12",
        (x) => Number.isInteger(x) && x >= 1 && x <= 1e12,
      ];
      if (text === "" || !Number.isFinite(number) || !holds(number)) {
        throw new Error(`${name.replaceAll("_", " ")} is "${text}"; it must lie in ${interval}.`);
      }
      given[name] = number;
    }
    given.steps_per_epoch = Math.ceil(given.dataset_size / given.batch_size);
    given.steps = given.steps_per_epoch * given.epochs;
    return given;
  }

  // The filter at a step -------------------------------------------------------------------------

  /** S and P, and alpha and gamma where the poles are real; `factor` is the schedule's. */
  function filterOf(given, factor) {
    if (given.source === "filter") return ofRates(given.alpha * factor, given.gamma);
    const gamma = oneMinus(given.momentum);
    let k = given.learning_rate * factor * given.weight_decay;
    if (given.decay === "decoupled" || given.momentum === 0) return ofRates(k, gamma);
    if (given.velocity === "normalised") k *= gamma;
    const S = gamma + k;
    const discriminant = S * S - 4 * k;
    if (discriminant < 0) return { S, P: k };
    const root = (S + Math.sqrt(discriminant)) / 2;
    return { S, P: k, alpha: k / root, gamma: root };
  }

  /** 1 - x to 15 decimals: 0.1 for 0.9, where floats give 0.09999999999999998. */
  function oneMinus(x) {
    return Number((1 - x).toFixed(15)) || 1 - x;
  }

  function ofRates(alpha, gamma) {
    return { S: alpha + gamma, P: alpha * gamma, alpha, gamma };
  }

  function refuseUnstable(given, f) {
    const beside = given.source === "recipe" && (given.decay === "decoupled" || !given.momentum);
    if (beside && f.alpha > 1) {
      throw new Error(
        `learning rate * weight decay is ${short(f.alpha)}; it must lie in [0, 1]: beyond it the ` +
          "decay turns the weights round at each step. Lower the weight decay."
      );
    }
    if (4 - 2 * f.S + f.P <= 0) {
      throw new Error(
        `learning rate * weight decay is too large (${short(f.P)}): the latent weights would grow ` +
          "without end. Lower the weight decay."
      );
    }
  }

  /** 1 / (1 - abs(p)) of the slowest pole p, in steps. */
  function timeConstant({ S, P, alpha, gamma }) {
    if (P === 0) return Infinity;
    if (alpha !== undefined) return 1 / Math.min(alpha, gamma);
    return (1 + Math.sqrt(1 - S + P)) / (S - P);
  }

  function meanDelay({ S, P }) {
    return S / P - 2;
  }

  /** Share of the weights that flip in a step, for gradients of white noise. */
  function flipRatio({ S, P }) {
    return (2 / Math.PI) * Math.atan(Math.sqrt(P / (4 - 2 * S + P)));
  }

  /** abs(H) at a frequency in cycles per step; c = abs(z - 1)^2 there. */
  function gain({ S, P }, frequency) {
    const c = 4 * Math.sin(Math.PI * frequency) ** 2;
    return P / Math.sqrt(P * P + c * (S * S - 2 * P - S * P) + c * c * (1 - S + P));
  }

  /** Where the power is half, in cycles per step; NaN where there is no such frequency. */
  function cutoff({ S, P }) {
    const a = 1 - S + P;
    const b = S * S - 2 * P - S * P;
    const c = (2 * P * P) / (b + Math.sqrt(b * b + 4 * a * P * P));
    return c > 4 ? NaN : Math.asin(Math.sqrt(c) / 2) / Math.PI;
  }

  /** lf.hyperparameters.suggest: between half an epoch and a third of the run. */
  function suggest({ steps_per_epoch, steps }) {
    const constant = Math.sqrt(((steps_per_epoch / 2) * steps) / 3);
    if (constant < 1) throw new Error(`A run of ${steps} steps is too short to average anything.`);
    return { alpha: 1 / constant, gamma: constant < 10 ? 1 : 0.1 };
  }

  // Python ---------------------------------------------------------------------------------------

  function python(given, f) {
    const scheduled = given.schedule !== "constant";
    const lines = ["import larq_filter as lf"];
    if (scheduled) lines.push("import tensorflow as tf");
    const real = f.alpha !== undefined && f.P > 0;
    if (given.source === "filter" || (real && !scheduled)) {
      if (scheduled) lines.push(`alpha = ${IN_PYTHON[given.schedule](f.alpha, given.steps)}`);
      const alpha = scheduled ? "alpha" : f.alpha;
      const filter =
        f.gamma === 1 ? `EMA(alpha=${alpha})` : `CascadedEMA(alpha=${alpha}, gamma=${f.gamma})`;
      lines.push(`optimizer = lf.FilterOptimizer(lf.filters.${filter})`);
      return lines.join("\n");
    }
    const rate = IN_PYTHON[given.schedule](given.learning_rate, given.steps);
    const named = [rate, `weight_decay=${given.weight_decay}`];
    if (given.momentum) named.push(`momentum=${given.momentum}`);
    if (given.decay === "decoupled") named.push("decoupled=True");
    if (given.velocity !== "keras") named.push(`velocity="${given.velocity}"`);
    lines.push(
      "translation = lf.hyperparameters.filter_from_sgd(",
      ...named.map((argument) => `    ${argument},`),
      ")",
      "optimizer = lf.FilterOptimizer(translation.filter)"
    );
    return lines.join("\n");
  }

  // What is shown --------------------------------------------------------------------------------

  function short(x) {
    if (x === Infinity) return "without end";
    if (Number.isNaN(x)) return "none";
    return x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5)
      ? String(Number(x.toPrecision(4)))
      : x.toExponential(3).replace("e+", "e");
  }

  function show(element, x) {
    element.textContent = short(x);
    element.dataset.value = String(x);
  }

  function describe(given, f) {
    if (f.P === 0) {
      return (
        "No weight decay: nothing is forgotten. The signal is the running mean of all gradients " +
        "since the start."
      );
    }
    if (f.alpha === undefined) {
      return "Complex poles: the signal swings. No pair of averages does the same (HeavyBall).";
    }
    const first =
      f.gamma === 1 ? "One moving average" : "Two moving averages in series, gamma and then alpha";
    return given.schedule === "constant" ? `${first}.` : `${first}; here at the first step.`;
  }

  function judge(given, memory) {
    const epochs = memory / given.steps_per_epoch;
    if (epochs === Infinity) return "The memory grows by itself, as long as training lasts.";
    if (epochs < 0.5) return "The memory begins below half an epoch, shorter than usual.";
    if (epochs > given.epochs / 3) {
      return "The memory is longer than a third of the run: the start is not forgotten in time.";
    }
    const good = "The memory begins between half an epoch and a third of the run, as it should.";
    if (given.schedule !== "constant") return good;
    return `${good} But it is constant: weights flip to the end. Let it grow.`;
  }

  function course(given, body) {
    body.replaceChildren();
    const shares = given.schedule === "constant" ? [0] : SHARES;
    const curves = [];
    for (const share of shares) {
      // The step as Python rounds it, a half to the even number.
      const step = roundHalfToEven(share * given.epochs * given.steps_per_epoch);
      const f = filterOf(given, SCHEDULES[given.schedule](step / given.steps));
      const memory = timeConstant(f);
      const ratio = f.P > 0 ? flipRatio(f) : NaN;
      const row = body.insertRow();
      row.dataset.step = step;
      const cells = {
        epoch: share * given.epochs,
        alpha: f.P > 0 && f.alpha !== undefined ? f.alpha : NaN,
        gamma: f.P > 0 && f.gamma !== undefined ? f.gamma : NaN,
        memory: memory / given.steps_per_epoch,
        flips: ratio,
        flips_per_epoch: ratio * given.steps_per_epoch,
      };
      for (const [name, value] of Object.entries(cells)) {
        const cell = row.insertCell();
        cell.dataset.name = name;
        show(cell, value);
      }
      if (f.P > 0) curves.push([share, f]);
    }
    return curves;
  }

  function roundHalfToEven(x) {
    const low = Math.floor(x);
    if (x - low !== 0.5) return Math.round(x);
    return low % 2 === 0 ? low : low + 1;
  }

  // The picture: gain in dB over cycles per epoch --------------------------------------------------

  const BOX = { left: 56, right: 628, top: 14, bottom: 262, lowest: -60 };

  function draw(svg, given, curves) {
    svg.replaceChildren();
    if (!curves.length) return;
    const highest = given.steps_per_epoch / 2;
    const cutoffs = curves.map(([, f]) => cutoff(f)).filter((x) => x > 0);
    const lowest = Math.min(...cutoffs, 0.01) * given.steps_per_epoch * 0.1;
    const [from, to] = [Math.log10(lowest), Math.log10(highest)];
    const x = (f) => BOX.left + ((Math.log10(f) - from) / (to - from)) * (BOX.right - BOX.left);
    const y = (db) => BOX.top + ((6 - db) / (6 - BOX.lowest)) * (BOX.bottom - BOX.top);

    for (let decade = Math.ceil(from); decade <= to; decade++) {
      const at = x(10 ** decade);
      line(svg, at, BOX.top, at, BOX.bottom);
      const label = decade < -2 || decade > 3 ? `1e${decade}` : String(10 ** decade);
      text(svg, at, BOX.bottom + 16, label, "middle");
    }
    for (let db = 0; db >= BOX.lowest; db -= 20) {
      line(svg, BOX.left, y(db), BOX.right, y(db));
      text(svg, BOX.left - 6, y(db) + 4, String(db), "end");
    }
    text(svg, (BOX.left + BOX.right) / 2, BOX.bottom + 36, "cycles per epoch", "middle");
    const label = text(svg, 0, 0, "gain (dB)", "middle");
    label.setAttribute("transform", `translate(14 ${(BOX.top + BOX.bottom) / 2}) rotate(-90)`);

    const kept = curves.length > 1 ? [curves[0], curves[2], curves[4]] : curves;
    kept.forEach(([share, f], index) => {
      const points = [];
      for (let i = 0; i <= 300; i++) {
        const frequency = 10 ** (from + ((to - from) * i) / 300);
        const db = 20 * Math.log10(gain(f, frequency / given.steps_per_epoch));
        if (db >= BOX.lowest) points.push(`${x(frequency).toFixed(1)},${y(db).toFixed(1)}`);
      }
      element(svg, "polyline", { points: points.join(" "), class: `curve curve-${index}` });
      const corner = cutoff(f) * given.steps_per_epoch;
      if (corner > 0) {
        element(svg, "circle", { cx: x(corner), cy: y(-3.01), r: 4, class: `dot dot-${index}` });
      }
      if (kept.length > 1) {
        const top = BOX.bottom - 52 + index * 18;
        element(svg, "polyline", {
          points: `${BOX.left + 12},${top - 4} ${BOX.left + 44},${top - 4}`,
          class: `curve curve-${index}`,
        });
        const when = share === 0 ? "at the first step" : `after ${100 * share} % of the run`;
        text(svg, BOX.left + 50, top, when, "start");
      }
    });
  }

  function element(svg, name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return svg.appendChild(made);
  }

  function line(svg, x1, y1, x2, y2) {
    return element(svg, "line", { x1, y1, x2, y2, class: "grid" });
  }

  function text(svg, x, y, content, anchor) {
    const made = element(svg, "text", { x, y, "text-anchor": anchor });
    made.textContent = content;
    return made;
  }

  // The page ---------------------------------------------------------------------------------------

  function update(form) {
    const page = (name) => document.getElementById(`explorer-${name}`);
    const recipe = form.elements.source.value === "recipe";
    page("recipe").hidden = !recipe;
    page("rates").hidden = recipe;
    let given, f;
    try {
      given = read(form);
      f = filterOf(given, 1);
      refuseUnstable(given, f);
    } catch (error) {
      page("error").textContent = error.message;
      page("results").hidden = true;
      return;
    }
    page("error").textContent = "";
    page("results").hidden = false;
    const memory = timeConstant(f);
    const forgets = f.P > 0;
    page("filter").textContent = describe(given, f);
    page("judgement").textContent = judge(given, memory);
    show(page("alpha"), forgets && f.alpha !== undefined ? f.alpha : NaN);
    show(page("gamma"), forgets && f.gamma !== undefined ? f.gamma : NaN);
    show(page("steps_per_epoch"), given.steps_per_epoch);
    show(page("memory_steps"), memory);
    show(page("memory_epochs"), memory / given.steps_per_epoch);
    show(page("delay"), forgets ? meanDelay(f) : NaN);
    show(page("cutoff"), forgets ? cutoff(f) * given.steps_per_epoch : NaN);
    show(page("flips"), forgets ? flipRatio(f) : NaN);
    show(page("flips_per_epoch"), forgets ? flipRatio(f) * given.steps_per_epoch : NaN);
    page("python").textContent = python(given, f);
    draw(page("gain"), given, course(given, page("course").tBodies[0]));
    page("gain").style.display = forgets ? "" : "none";
    remember(form);
  }

  /** The form in the address, so that it can be kept and sent. */
  function remember(form) {
    const fields = new URLSearchParams(new FormData(form));
    try {
      history.replaceState(null, "", `?${fields}${location.hash}`);
    } catch {
      // A page from a folder may not change its address.
    }
  }

  function start() {
    const form = document.getElementById("explorer");
    if (!form) return;
    for (const [name, value] of new URLSearchParams(location.search)) {
      const field = form.elements[name];
      if (field) field.value = value;
    }
    for (const kind of ["input", "change"]) form.addEventListener(kind, () => update(form));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("explorer-suggest").addEventListener("click", () => {
      form.elements.source.value = "filter";
      try {
        const rates = suggest(read(form));
        form.elements.alpha.value = rates.alpha;
        form.elements.gamma.value = rates.gamma;
        form.elements.schedule.value = "linear";
      } catch (error) {
        document.getElementById("explorer-error").textContent = error.message;
        return;
      }
      update(form);
    });
    update(form);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
