// Shows the PNG of a Picture and tells the kernel how many screen pixels it covers.

const MAX_ZOOM = 1.5; // how far a picture grows in a wide cell
const SETTLE_MS = 150; // after the last change of size, before the kernel draws anew

// ipywidgets leaves the handles of its sliders without a name for screen readers.
function nameSliders(explorer) {
  for (const slider of explorer?.querySelectorAll(".widget-slider, .widget-hslider") ?? []) {
    const name = slider.querySelector(".widget-label")?.textContent ?? "";
    slider.querySelector(".noUi-handle")?.setAttribute("aria-label", name);
  }
}

function render({ model, el }) {
  const image = document.createElement("img");
  el.classList.add("depl0kit-picture");
  el.append(image);

  const fit = () => {
    image.alt = model.get("alt");
    image.style.maxWidth = `${MAX_ZOOM * model.get("width")}px`;
    image.style.aspectRatio = `${model.get("width")} / ${model.get("height")}`;
  };

  let url = null;
  const show = () => {
    const old = url;
    url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    image.src = url; // the browser keeps the old picture until the new one is decoded
    if (old) URL.revokeObjectURL(old);
  };

  let timer = null;
  const measure = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      nameSliders(el.closest(".depl0kit-explorer"));
      const ratio = (window.devicePixelRatio * image.clientWidth) / model.get("width");
      if (ratio === 0 || Math.abs(ratio - model.get("ratio")) < 0.01) return; // hidden, or the same
      model.set("ratio", ratio);
      model.save_changes();
    }, SETTLE_MS);
  };

  // Press and drag: at most one report a frame, as shares of the picture.
  let pressed = false;
  let frame = null;
  let last = null;
  let count = 0;
  const report = (event) => {
    const box = image.getBoundingClientRect();
    const share = (value) => Math.min(1, Math.max(0, value));
    last = [share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height)];
    frame ??= requestAnimationFrame(() => {
      frame = null;
      model.set("pointer", [...last, ++count]);
      model.save_changes();
    });
  };
  if (model.get("follows")) {
    image.draggable = false; // or the browser would carry the picture away
    image.style.cursor = "ns-resize";
    image.style.touchAction = "none";
    image.addEventListener("pointerdown", (event) => {
      pressed = true;
      image.setPointerCapture(event.pointerId);
      report(event);
    });
    image.addEventListener("pointermove", (event) => pressed && report(event));
    for (const end of ["pointerup", "pointercancel"])
      image.addEventListener(end, () => (pressed = false));
  }

  fit();
  show();
  const observer = new ResizeObserver(measure);
  observer.observe(image);
  window.addEventListener("resize", measure);
  model.on("change:png", show);
  model.on("change:width change:height change:alt", fit);

  return () => {
    clearTimeout(timer);
    observer.disconnect();
    window.removeEventListener("resize", measure);
    URL.revokeObjectURL(url);
  };
}

export default { render };
