// What all drawings share: colours of the theme, size, redrawing.

const drawings = [];

const font = () => getComputedStyle(document.body).fontFamily;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Something that is drawn into an element, and again where the width or the theme changes. */
function drawing(id, draw) {
  const place = byId(id);
  let width = 0;
  const again = (force) => {
    if (!force && place.clientWidth === width) return;
    width = place.clientWidth;
    draw(place, width);
  };
  drawings.push(again);
  new ResizeObserver(() => requestAnimationFrame(() => again(false))).observe(place);
  again(true);
  return () => again(true);
}

const redraw = () => drawings.forEach((again) => again(true));

/** A chart of ECharts. @param {(width: number) => object | string} option its option, or why there is none */
function chart(id, height, option) {
  let made = null;
  return drawing(id, (place, width) => {
    const told = option(width);
    if (typeof told === "string") {
      made?.dispose();
      made = null;
      place.style.height = "auto";
      place.replaceChildren(element("p", { class: "empty" }, told));
      return;
    }
    if (!made) place.replaceChildren();
    place.style.height = `${typeof height === "function" ? height() : height}px`;
    made ??= vendor.init(place, null, { renderer: "svg" });
    made.resize();
    made.setOption({ animation: false, textStyle: { fontFamily: font(), color: colour("ink") }, ...told }, true);
    place.chart = made;
  });
}

/** A tooltip that is drawn as text. */
const tooltip = (formatter, more = {}) => ({
  renderMode: "richText",
  confine: true,
  backgroundColor: colour("paper"),
  borderColor: colour("line"),
  textStyle: { color: colour("ink"), fontSize: 12, fontFamily: font() },
  formatter: (given) => formatter(given),
  ...more,
});

const axisStyle = () => ({
  axisLine: { lineStyle: { color: colour("line") } },
  axisTick: { show: false },
  axisLabel: { color: colour("soft"), fontSize: 11, hideOverlap: true },
  splitLine: { lineStyle: { color: colour("line"), opacity: 0.6 } },
});

/** An axis of bytes with round steps: powers of two. @param {number} most */
function byteAxis(most, parts) {
  const interval = 2 ** Math.ceil(Math.log2(Math.max(most / parts, 1)));
  return { interval, max: Math.max(Math.ceil(most / interval), 1) * interval };
}

/** What a chart says to who does not see it; series may have patterns. */
const told = (description) => ({ enabled: true, label: { description }, decal: { show: true, decals: ["none"] } });

const HATCH = { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: -Math.PI / 4, color: "rgba(0,0,0,0.35)" };
const BARE = { symbol: "none" };
