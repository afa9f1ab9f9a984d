// The table of sites: sorted, filtered, a page of it at a time.

const PAGE = 50; // rows
const WORDS = ["kind", "module", "context", "gfp", "cache"];
const NUMBERS = ["count", "bytes_allocated", "bytes_wasted", "failures", "opportunistic_failures"];

/** Whether a site fits all words of a filter; `kind:`, `module:` and others look at that alone. */
function siteFits(site, filter) {
  return filter
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => {
      const [name, ...rest] = word.split(":");
      if (WORDS.includes(name) && rest.length) {
        const wanted = rest.join(":");
        const value = String(site[name] ?? "").toLowerCase();
        return name === "module" && wanted === "kernel" ? value === "" : value.includes(wanted);
      }
      const all = `${site.kind} ${site.label} ${site.gfp} ${site.context} ${site.cache ?? ""} ${site.zone ?? ""}`;
      return all.toLowerCase().includes(word);
    });
}

class Sites {
  constructor(model, range) {
    Object.assign(this, { model, range, sort: "bytes_allocated", down: true, page: 0, marked: null });
    this.table = byId("sites-table");
    this.filter = byId("sites-filter");
    this.rowsOf = rowsBySite(model);
    this.heads();
    this.filter.addEventListener("input", () => this.show(0));
    byId("sites-before").addEventListener("click", () => this.show(this.page - 1));
    byId("sites-after").addEventListener("click", () => this.show(this.page + 1));
    range.listen(() => this.show(0));
    this.show(0);
  }

  heads() {
    for (const head of this.table.querySelectorAll("th[data-column]")) {
      const button = element("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const name = head.dataset.column;
        this.down = this.sort === name ? !this.down : NUMBERS.includes(name);
        this.sort = name;
        this.show(0);
      });
    }
  }

  /** The sites to show, sorted; without those that did nothing in the chosen slices. */
  chosen() {
    const { sums, whole } = this.range;
    const busy = (at) => whole || NUMBERS.some((name) => sums[name][at]);
    const found = this.model.sites.filter((site) => busy(site.index) && siteFits(site, this.filter.value));
    const value = NUMBERS.includes(this.sort) ? (site) => sums[this.sort][site.index] : (site) => site[this.sort] ?? "";
    const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : Number(a > b));
    return found.sort((a, b) => (this.down ? -1 : 1) * compare(value(a), value(b)) || a.index - b.index);
  }

  show(page) {
    const found = this.chosen();
    const pages = Math.max(Math.ceil(found.length / PAGE), 1);
    this.page = Math.min(Math.max(page, 0), pages - 1);
    const rows = found.slice(this.page * PAGE, (this.page + 1) * PAGE).map((site) => this.row(site));
    const none = element("tr", {}, element("td", { colspan: 10, class: "empty" }, "No site fits."));
    this.table.tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
    for (const head of this.table.querySelectorAll("th[data-column]")) {
      if (head.dataset.column === this.sort) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const count = byId("sites-count");
    count.dataset.value = found.length;
    count.textContent = `${number(found.length)} of ${number(this.model.sites.length)}`;
    byId("sites-page").textContent = `page ${this.page + 1} of ${pages}`;
    byId("sites-before").disabled = this.page === 0;
    byId("sites-after").disabled = this.page === pages - 1;
  }

  row(site) {
    const { sums } = this.range;
    const row = element("tr", { id: `site=${site.id}` });
    const place = element("a", { href: fragment.link(row.id) }, element("code", {}, plain(site.site)));
    const where = element("td", {}, place);
    if (site.module) where.append(" ", element("span", { class: "module" }, `[${plain(site.module)}]`));
    const what = site.cache ?? (site.order ? `order ${site.order}` : "");
    if (what) where.append(" ", element("small", {}, plain(what)));
    row.append(element("td", {}, site.kind), where, element("td", {}, ...breakable(site.gfp)), element("td", {}, ...breakable(site.context)));
    for (const name of NUMBERS) {
      const value = sums[name][site.index];
      const cell = { class: "number", "data-column": name, "data-value": value };
      row.append(element("td", cell, shown(name, value)));
    }
    row.append(element("td", { class: "spark" }, this.spark(site)));
    if (site.id === this.marked) row.classList.add("marked");
    return row;
  }

  /** Allocations and failures of a site by slice, as a line. */
  spark(site) {
    const [wide, high] = [80, 20];
    const { rows, seconds: lengths } = this.model.timeline;
    const values = new Array(Math.max(lengths.length, 2)).fill(0);
    const [first, last] = this.rowsOf[site.index] ?? [0, 0];
    for (let at = first; at < last; at += 1) {
      const events = rows.count[at] + rows.failures[at] + rows.opportunistic_failures[at];
      values[rows.slice[at]] = events / Math.max(lengths[rows.slice[at]], 1e-9);
    }
    if (lengths.length === 1) values[1] = values[0];
    const x = vendor.scaleLinear([0, values.length - 1], [1, wide - 1]);
    const y = vendor.scaleLinear([0, Math.max(...values, 1e-9)], [high - 1, 1]);
    const svg = vendor.select(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    svg.attr("width", wide).attr("height", high).attr("aria-hidden", "true");
    const under = vendor.area().x((_, at) => x(at)).y0(high).y1(y);
    const over = vendor.line().x((_, at) => x(at)).y(y);
    svg.append("path").attr("class", "under").attr("d", under(values));
    svg.append("path").attr("class", "over").attr("d", over(values));
    return svg.node();
  }

  /** Show a site's row, whatever page it is on; false where there is no such site. */
  goTo(id) {
    const site = this.model.sites.find((each) => each.id === id);
    if (!site) return false;
    this.marked = id;
    let at = this.chosen().indexOf(site);
    if (at < 0) {
      this.filter.value = "";
      at = this.chosen().indexOf(site);
    }
    if (at < 0) {
      this.range.choose(0, this.range.slices);
      at = this.chosen().indexOf(site);
    }
    this.show(Math.floor(at / PAGE));
    byId(`site=${id}`).scrollIntoView({ block: "center" });
    return true;
  }
}

/** By site, the first of its rows by slice and the first behind them. */
function rowsBySite(model) {
  const { site } = model.timeline.rows;
  const found = [];
  site.forEach((each, at) => {
    found[each] ??= [at, at];
    found[each][1] = at + 1;
  });
  return found;
}
