// Puts the page together.

function wireTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = (name) => {
    root.dataset.theme = name;
    redraw();
  };
  root.dataset.theme = dark.matches ? "dark" : "light";
  dark.addEventListener("change", () => set(dark.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () => set(root.dataset.theme === "dark" ? "light" : "dark"));
  let before = "light";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    set("light");
  });
  addEventListener("afterprint", () => set(before));
}

function follow(range, sites) {
  const told = fragment.read();
  if (told.from !== null || told.to !== null) range.choose(Number(told.from ?? 0), Number(told.to ?? range.slices));
  if (told.site !== null && sites.goTo(told.site)) fragment.write(range);
}

async function start() {
  const model = await unpack();
  const range = new Range(model);
  wireTheme();
  addFindings(model.findings);
  drawTimeline(model, range);
  new Flame(model, range);
  drawSizes(model, range);
  drawHeat(model, range);
  drawZones(model, range);
  const sites = new Sites(model, range);
  range.listen(() => fragment.write(range));
  addEventListener("hashchange", () => follow(range, sites));
  follow(range, sites);
  // The graph sets its widths and labels a frame later.
  await new Promise((drawn) => setTimeout(() => requestAnimationFrame(drawn), 30));
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  const place = byId("failure");
  place.hidden = false;
  place.textContent = `This browser cannot show the charts (${error.message}); the rest can be read.`;
});
