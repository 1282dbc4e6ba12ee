// Shows the PNG of a Picture and tells the kernel how much room there is on the screen.

const SETTLE_MS = 150; // after the last change of size, before the kernel draws anew
const PULSE_MS = 1000; // from look to look, whether there is a kernel

// ipywidgets leaves the handles of its sliders without a name for screen readers.
function nameSliders(explorer) {
  for (const slider of explorer?.querySelectorAll(".widget-hslider") ?? []) {
    const name = slider.querySelector(".widget-label")?.textContent ?? "";
    const handle = slider.querySelector(".noUi-handle");
    handle?.setAttribute("aria-label", name);
    // one that shows no number has only a place in a list: what is there stands in the line
    const line = explorer.querySelector(".depl0kit-line")?.textContent;
    if (!slider.querySelector(".widget-readout")?.checkVisibility() && line) handle?.setAttribute("aria-valuetext", line);
  }
}

// Whether the kernel that made a widget is gone; false where the page does not tell.
function kernelWatch(manager) {
  const made = manager?.kernel?.id;
  return () => {
    const kernel = manager?.kernel;
    if (made === undefined) return false;
    return kernel?.id !== made || kernel.status === "dead" || kernel.connectionStatus === "disconnected";
  };
}

function render({ model, el }) {
  const image = document.createElement("img");
  el.classList.add("depl0kit-picture");
  el.append(image);

  let url = null;
  const show = () => {
    const old = url;
    url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    image.src = url; // the browser keeps the old picture until the new one is decoded
    setTimeout(() => nameSliders(el.closest(".depl0kit-explorer")), SETTLE_MS); // the line follows the picture
    if (old) URL.revokeObjectURL(old);
  };
  const fit = () => {
    image.alt = model.get("alt");
    image.style.height = `${model.get("height")}px`;
    image.style.minWidth = `${model.get("least")}px`;
  };

  let timer = null;
  const measure = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      nameSliders(el.closest(".depl0kit-explorer"));
      const now = [el.clientWidth, window.devicePixelRatio];
      if (now[0] === 0 || now.every((n, i) => n === model.get("screen")[i])) return; // hidden, or the same
      model.set("screen", now);
      model.save_changes();
    }, SETTLE_MS);
  };

  // Press and drag: at most one report a frame, as shares of the picture.
  let pressed = false;
  let frame = null;
  let last = null;
  let press = 0;
  const report = (event) => {
    const box = image.getBoundingClientRect();
    last = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    frame ??= requestAnimationFrame(() => {
      frame = null;
      model.set("pointer", [...last, press]);
      model.save_changes();
    });
  };
  if (model.get("follows")) {
    image.draggable = false; // or the browser would carry the picture away
    image.style.cursor = "ns-resize";
    image.style.touchAction = "none";
    image.addEventListener("pointerdown", (event) => {
      pressed = true;
      press = model.get("pointer")[2] + 1; // also of other views
      image.setPointerCapture(event.pointerId);
      report(event);
    });
    image.addEventListener("pointermove", (event) => pressed && report(event));
    for (const end of ["pointerup", "pointercancel"])
      image.addEventListener(end, () => (pressed = false));
  }

  const isLost = kernelWatch(model.widget_manager);
  const pulse = setInterval(
    () => el.closest(".depl0kit-explorer")?.classList.toggle("depl0kit-lost", isLost()),
    PULSE_MS,
  );

  fit();
  show();
  const observer = new ResizeObserver(measure);
  observer.observe(el);
  window.addEventListener("resize", measure); // also where only the zoom changes
  model.on("change:png", show);
  model.on("change:height change:least change:alt", fit);

  return () => {
    clearTimeout(timer);
    clearInterval(pulse);
    observer.disconnect();
    window.removeEventListener("resize", measure);
    URL.revokeObjectURL(url);
  };
}

export default { render };
