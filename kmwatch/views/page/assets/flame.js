// Which ways of calls lead to it: an icicle or a flame graph.

const FAILED = new Set(["failures", "opportunistic_failures"]);
const PALETTE = ["#f2b36b", "#7fb8d6", "#a8cf8e", "#d9a0c8", "#c9b8f0", "#e8d06f", "#8fd0c0", "#e79a8a", "#b9c98f", "#9fb4e8"];
const CELL = 20; // px

/** What ends at each node in the chosen slices: each site's sum, split by the shares of its stacks. */
function ownValues(flame, range, measure) {
  if (range.whole) return flame.values[measure];
  const { site, failed, node, share } = flame.weights;
  const own = new Float64Array(flame.nodes.parent.length);
  const wanted = Number(FAILED.has(measure));
  const same = (a, b) => b < site.length && site[a] === site[b] && failed[a] === failed[b];
  let end = 0;
  let below = 0;
  for (let at = 0; at < site.length; at += 1) {
    const last = !same(at, at + 1);
    end += share[at];
    if (failed[at] === wanted) {
      // Rounded by what lies below the end of each share, no unit is lost between two.
      const upto = Math.round((last ? 1 : end) * range.sums[measure][site[at]]);
      own[node[at]] += upto - below;
      below = upto;
    }
    if (last) end = below = 0;
  }
  return own;
}

/** The tree as d3-flame-graph wants it, without what is 0. */
function flameTree(flame, own) {
  const { parent, frame } = flame.nodes;
  const sums = Float64Array.from(own);
  for (let at = parent.length - 1; at > 0; at -= 1) sums[parent[at]] += sums[at];
  const made = parent.map((_, at) => {
    const { name, module, sort } = at ? flame.frames[frame[at]] : { name: "all", module: "", sort: "kind" };
    return { name: plain(name, 200), module: plain(module, 60), sort, value: sums[at], children: [] };
  });
  for (let at = 1; at < parent.length; at += 1) if (sums[at] > 0) made[parent[at]].children.push(made[at]);
  for (const each of made) each.children.sort((a, b) => (a.sort === "smaller") - (b.sort === "smaller") || b.value - a.value);
  return made[0];
}

/** The modules with most frames have a colour each, the others share the last. */
function modulePaints(flame) {
  const counts = new Map();
  for (const each of flame.frames) if (each.sort === "function") counts.set(each.module, (counts.get(each.module) ?? 0) + 1);
  counts.delete("");
  const modules = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  return new Map(["", ...modules].slice(0, PALETTE.length - 1).map((name, at) => [plain(name, 60), PALETTE[at]]));
}

/** What the legend and the graph paint a frame with. */
function paint(paints, { sort, module }) {
  if (sort === "missing") return "url(#hatch)";
  if (sort === "smaller") return "#c4c4c4";
  if (sort === "kind") return "#dfe3e8";
  return paints.get(module) ?? PALETTE.at(-1);
}

class Flame {
  constructor(model, range) {
    Object.assign(this, { flame: model.flame, range, paints: modulePaints(model.flame), graph: null, cursor: null });
    [this.measure, this.layout, this.search, this.place] = ["measure", "layout", "search", "chart"].map((id) => byId(`flame-${id}`));
    this.measure.value = model.sites.some((site) => site.bytes_wasted > 0) ? "bytes_wasted" : "bytes_allocated";
    const draw = drawing("flame-chart", (_, width) => this.draw(width));
    this.measure.addEventListener("change", draw);
    this.layout.addEventListener("change", draw);
    this.search.addEventListener("input", () => this.find());
    byId("flame-reset").addEventListener("click", () => this.reset());
    this.place.addEventListener("keydown", (event) => this.key(event));
    range.listen(draw);
    this.legend();
  }

  draw(width) {
    const measure = this.measure.value;
    const root = flameTree(this.flame, ownValues(this.flame, this.range, measure));
    this.root = root;
    this.cursor = this.graph = null;
    const total = byId("flame-total");
    total.textContent = `${shown(measure, root.value)} in all`;
    total.dataset.value = root.value;
    this.caption();
    if (!(root.value > 0)) {
      this.place.replaceChildren(element("p", { class: "empty" }, `No ${this.measure.selectedOptions[0].text} in this span.`));
      this.find();
      return;
    }
    this.place.replaceChildren();
    this.place.dataset.layout = this.layout.value;
    const percents = (d) => (d.parent ? `, ${percent(d.data.value, root.value)}` : "");
    const name = (d) => (d.data.module ? `${d.data.name} [${d.data.module}]` : d.data.name);
    this.graph = vendor
      .flamegraph()
      .width(width)
      .cellHeight(CELL)
      .minFrameSize(2)
      .transitionDuration(0)
      .resetHeightOnZoom(true)
      .inverted(this.layout.value === "icicle")
      .getName(name)
      .setLabelHandler((d) => `${name(d)}: ${shown(measure, d.data.value)}${percents(d)}`)
      .setDetailsElement(byId("flame-details"))
      .setColorMapper((d) => (d.highlight ? "#ff5fd2" : paint(this.paints, d.data)))
      .setSearchMatch((d, term) => Boolean(term) && name(d).toLowerCase().includes(term))
      .setSearchHandler((_, sum) => this.matched(sum));
    vendor.select(this.place).datum(root).call(this.graph);
    this.find();
  }

  find() {
    const term = this.search.value.trim().toLowerCase();
    if (this.graph && term) this.graph.search(term);
    else {
      this.graph?.clear();
      this.matched(null);
    }
  }

  /** @param {number | null} sum */
  matched(sum) {
    const output = byId("flame-matched");
    output.textContent = sum === null ? "" : `${percent(sum, this.root.value)} matched`;
    output.dataset.value = sum ?? "";
  }

  reset() {
    this.search.value = "";
    this.find();
    this.graph?.resetZoom();
    this.point(null);
  }

  /** Frames by keyboard: towards the root, away from it, and to both sides. */
  key(event) {
    const icicle = this.layout.value === "icicle";
    const keys = { [icicle ? "ArrowUp" : "ArrowDown"]: "out", [icicle ? "ArrowDown" : "ArrowUp"]: "in" };
    const way = keys[event.key] ?? { ArrowLeft: "left", ArrowRight: "right", Enter: "zoom", Escape: "reset" }[event.key];
    if (!way || !this.graph) return;
    event.preventDefault();
    if (way === "reset") return this.reset();
    const at = this.cursor ?? this.graph.findById(0);
    if (way === "zoom") {
      this.graph.zoomTo(at);
      return this.point(at);
    }
    const beside = at.parent?.children ?? [at];
    const next = beside.indexOf(at) + (way === "right" ? 1 : -1);
    const to = this.cursor && { in: at.children?.[0], out: at.parent, left: beside[next], right: beside[next] }[way];
    return this.point(to ?? at);
  }

  point(node) {
    this.cursor = node;
    const frames = vendor.select(this.place).selectAll("g.frame");
    frames.classed("cursor", (d) => d === node);
    byId("flame-details").textContent = node ? this.graph.setLabelHandler()(node) : "";
  }

  caption() {
    const { stacks, merged } = this.flame;
    const parts = [];
    if (!stacks) parts.push("No stacks were taken: only the functions that asked are known.");
    else if (this.range.whole) parts.push(`${number(stacks)} stacks.`);
    else parts.push("The sums are those of the chosen span, exactly; each site's is split by the shares that its stacks have in the whole recording.");
    if (merged) parts.push(`${number(merged)} small frames are put together as “[N smaller]”; the sums stay exact.`);
    if (stacks) parts.push("Hatched: where the stack does not tell. Frames narrower than 2 px are not drawn until you zoom in.");
    byId("flame-caption").textContent = parts.join(" ");
  }

  legend() {
    const swatch = (fill, text) => {
      const made = element("span", {}, element("i", fill ? { style: `background:${fill}` } : { class: "hatched" }), text);
      return made;
    };
    const modules = [...this.paints].map(([name, fill]) => swatch(fill, name || "kernel"));
    const others = this.paints.size === PALETTE.length - 1 ? [swatch(PALETTE.at(-1), "other modules")] : [];
    byId("flame-legend").append(...modules, ...others, swatch("", "not known"));
  }
}
