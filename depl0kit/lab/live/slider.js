// A NumberSlider: a name, a handle that stops at given numbers, and a box that takes any number between.

const inWords = (number) => String(Number(number.toPrecision(3)));

const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };

let made = 0; // sliders on this page

function render({ model, el }) {
  el.classList.add("depl0kit-slider");
  el.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the arrow keys to fold headings
  const label = document.createElement("label");
  const range = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1 });
  const box = Object.assign(document.createElement("input"), { type: "text", inputMode: "decimal" });
  range.id = `depl0kit-slider-${++made}`; // crypto.randomUUID is there on https and localhost only
  label.htmlFor = range.id;
  box.autocomplete = "off";
  el.append(label, range, box);

  const words = () => ({ first: model.get("first"), last: model.get("last") });
  const text = (value) =>
    value === null ? words().last : value === 0 && words().first ? words().first : inWords(value);

  // Stops, from left to right; the present value is one of them, also if it was typed.
  let stops = [];
  const layOut = () => {
    const { first, last } = words();
    const value = model.get("value");
    const numbers = new Set(model.get("numbers"));
    if (value !== null && !(value === 0 && first)) numbers.add(value);
    stops = [...(first ? [0] : []), ...[...numbers].sort((a, b) => a - b), ...(last ? [null] : [])];
    range.max = stops.length - 1;
  };
  const show = () => {
    const value = model.get("value");
    if (!stops.includes(value)) layOut();
    range.value = stops.indexOf(value);
    range.setAttribute("aria-valuetext", text(value));
    if (document.activeElement !== box) box.value = text(value);
  };
  const describe = () => {
    label.textContent = model.get("description");
    el.title = model.get("tooltip");
    box.setAttribute("aria-label", `${model.get("description")}, as a number`);
    const widest = [...model.get("numbers").map(inWords), ...Object.values(words())];
    // a ch is the width of a digit; words are narrower
    box.style.width = `${Math.max(5, ...widest.map((word) => 0.85 * word.length)) + 1}ch`;
    range.disabled = box.disabled = model.get("disabled");
  };

  const set = (value) => {
    model.set("value", value);
    model.save_changes();
    show();
  };
  const move = (place) => {
    set(stops[Math.min(Math.max(place, 0), stops.length - 1)]);
    box.value = text(model.get("value"));
  };
  range.addEventListener("input", () => move(range.valueAsNumber));
  range.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault(); // JupyterLab keeps the browser from doing this
    event.stopPropagation();
    move(range.valueAsNumber + step);
  });

  const allowed = () => {
    const { first, last } = words();
    const numbers = model.get("numbers");
    const between = `a number from ${inWords(numbers[0])} to ${inWords(numbers.at(-1))}`;
    return [between, ...[first, last].filter(Boolean)].join(", or ");
  };
  const read = () => {
    const { first, last } = words();
    const typed = box.value.trim().toLowerCase();
    if (first && typed === first.toLowerCase()) return 0;
    if (last && typed === last.toLowerCase()) return null;
    const number = typed === "" ? NaN : Number(typed.replace(",", "."));
    const numbers = model.get("numbers");
    if (first && number === 0) return 0;
    return number >= numbers[0] && number <= numbers.at(-1) ? number : undefined; // also for NaN
  };
  box.addEventListener("input", () => box.setCustomValidity(""));
  const take = () => {
    if (box.value === text(model.get("value"))) return; // it may be rounded, or outside the range
    const value = read();
    if (value === undefined) {
      box.setCustomValidity(allowed());
      box.reportValidity();
      return;
    }
    set(value);
    layOut(); // a number that was typed before is no stop any more
    show();
    box.value = text(value);
  };
  box.addEventListener("change", take);
  box.addEventListener("keydown", (event) => event.key === "Enter" && take());
  box.addEventListener("blur", () => {
    box.setCustomValidity("");
    box.value = text(model.get("value"));
  });
  box.addEventListener("focus", () => box.select());

  layOut();
  describe();
  show();
  box.value = text(model.get("value"));
  model.on("change:value", show);
  model.on("change:numbers change:first change:last", () => (layOut(), describe(), show()));
  model.on("change:description change:tooltip change:disabled", describe);
}

export default { render };
